"use strict";
(() => {
  const body = document.body, open = body.dataset.open, tick = Number(body.dataset.tickS) || 5;
  const by = (id) => document.getElementById(id);
  let source = null, wait = 1, last = Date.now(), retry = 0, filter = "all", sorted = "rank", down = false, seen = body.dataset.tick;

  function times(root) {
    for (const one of root.querySelectorAll("time[datetime]")) {
      const at = new Date(one.dateTime), parts = { hour: "2-digit", minute: "2-digit", hour12: false };
      if ("s" in one.dataset) parts.second = "2-digit";
      one.textContent = at.toLocaleTimeString("en-GB", parts);
      one.title = at.toLocaleString();
    }
  }

  function put(id, html) {
    const place = by(id);
    if (!place) return;
    const table = place.querySelector("details.astable"), shown = table && table.open;
    const focused = place.contains(document.activeElement) ? [...place.querySelectorAll("a,button,summary")].indexOf(document.activeElement) : -1;
    const line = place.querySelector(":scope > td.spark");
    place.innerHTML = html;
    if (line) place.querySelector("td.spark").replaceWith(line);
    times(place);
    if (shown) { const again = place.querySelector("details.astable"); if (again) again.open = true; }
    if (focused >= 0) { const again = place.querySelectorAll("a,button,summary")[focused]; if (again) again.focus(); }
  }

  function take(event) {
    const news = JSON.parse(event.data);
    if (news.layout !== body.dataset.layout) { location.reload(); return; }
    for (const [id, html] of Object.entries(news.inside)) put(id, html);
    for (const [id, texts] of Object.entries(news.cells)) {
      const row = by(id);
      if (!row) continue;
      row.cells[0].dataset.rate = texts[texts.length - 1];
      for (let i = 0; i < texts.length - 1; i++) if (row.cells[i + 2].textContent !== texts[i]) row.cells[i + 2].textContent = texts[i];
    }
    last = Date.now(); wait = 1; seen = news.tick;
    body.classList.remove("lost");
    arrange(); fresh();
  }

  function connect() {
    clearTimeout(retry);
    if (source) source.close();
    source = new EventSource("/api/v1/events?view=page&layout=" + encodeURIComponent(body.dataset.layout) + "&tick=" + seen + "&open=" + encodeURIComponent(open));
    source.addEventListener("page", take);
    source.onerror = () => {
      source.close(); source = null;
      retry = setTimeout(connect, 1000 * wait * (0.75 + Math.random() / 2));
      wait = Math.min(15, wait * 2);
    };
  }

  function fresh() {
    const mark = by("fresh");
    if (!mark) return;
    const age = Math.round((Date.now() - last) / 1000), late = age > 3 * tick + 2;
    mark.classList.toggle("late", late);
    mark.querySelector(".text").textContent = late ? `no update for ${age} s, retrying` : `live, ${age} s ago`;
    if (late && !body.classList.contains("lost")) {
      body.classList.add("lost");
      by("link").textContent = "Page disconnected; shown as of " + new Date(last).toLocaleTimeString("en-GB");
    }
  }

  function arrange() {
    const table = by("table");
    if (!table) return;
    const rows = [...table.tBodies[0].rows], words = (by("search") ? by("search").value : "").trim().toLowerCase();
    for (const row of rows) {
      const rank = Number(row.cells[0].dataset.rank);
      const fits = filter === "all" || (filter === "look" ? rank < 3 : rank === 3 || rank === 4);
      row.hidden = !(fits && row.textContent.toLowerCase().includes(words));
    }
    if (table.matches(":hover") || table.contains(document.activeElement)) return;
    const of = (row, what) => Number(row.cells[0].dataset[what]);
    const order = (a, b) => (down ? -1 : 1) * (of(a, sorted) - of(b, sorted)) || of(b, "rate") - of(a, "rate") || (a.dataset.key < b.dataset.key ? -1 : 1);
    const wanted = [...rows].sort(order);
    if (wanted.some((row, i) => row !== rows[i])) table.tBodies[0].append(...wanted);
  }

  function sorting() {
    for (const head of document.querySelectorAll("th[data-sort]")) {
      const button = document.createElement("button");
      button.type = "button"; button.className = "sorter"; button.innerHTML = head.innerHTML;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        down = sorted === head.dataset.sort ? !down : head.dataset.sort === "rate";
        sorted = head.dataset.sort;
        for (const other of document.querySelectorAll("th[data-sort]")) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        button.blur(); arrange();
      });
    }
  }

  function keys(event) {
    const search = by("search"), at = document.activeElement;
    if (event.key === "/" && search && at !== search) { event.preventDefault(); search.focus(); return; }
    if (event.key === "Escape") { if (at === search) { search.value = ""; arrange(); } if (at) at.blur(); return; }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const links = [...document.querySelectorAll("tbody tr:not([hidden]) th a")], i = links.indexOf(at);
    if (i < 0 && at !== search) return;
    event.preventDefault();
    const next = links[i + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) next.focus(); else if (event.key === "ArrowUp" && search) search.focus();
  }

  by("zone").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
  times(document); sorting();
  if (by("search")) by("search").addEventListener("input", arrange);
  for (const chip of document.querySelectorAll("[data-filter]")) chip.addEventListener("click", () => {
    filter = chip.dataset.filter;
    for (const other of document.querySelectorAll("[data-filter]")) other.setAttribute("aria-pressed", String(other === chip));
    arrange();
  });
  document.addEventListener("keydown", keys);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { clearTimeout(retry); if (source) source.close(); source = null; } else connect();
  });
  setInterval(fresh, 1000);
  connect();
})();
