"""A real Kubernetes control plane on loopback: etcd, kube-apiserver, kube-controller-manager, at will kube-scheduler.

`with ControlPlane(folder) as plane:` has it ready; everything of it is in the folder and nothing is left running, also
when this process is killed. Not for nodes: there is no kubelet, so pods run only where something plays one.
"""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import urllib3
import yaml

from tests.cluster import parts
from tests.cluster.network import free_ports
from tests.cluster.pki import Authority, service_account_keys

CORE = ("etcd", "kube-apiserver", "kube-controller-manager")
SCHEDULER = "kube-scheduler"
PATIENCE_S = 90.0
"""With a machine that does other things too; nothing is timed by it."""
ADMIN = "kubernetes-admin"
_ISSUER = "https://kubernetes.default.svc"
_CONTROL_PLANE = ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:anonymous"]
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "rules": [
        {"level": "None", "users": _CONTROL_PLANE},
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        # A watch completes when it ends, which may be never: that it began is what counts.
        {"level": "Metadata", "verbs": ["watch"], "omitStages": ["RequestReceived", "ResponseComplete"]},
        {"level": "Metadata", "verbs": ["get", "list"], "omitStages": ["RequestReceived", "ResponseStarted"]},
        {
            "level": "Metadata",
            "resources": [{"group": "", "resources": ["secrets", "serviceaccounts/token"]}],
            "omitStages": ["RequestReceived", "ResponseStarted"],
        },
        {"level": "RequestResponse", "omitStages": ["RequestReceived", "ResponseStarted"]},
    ],
}
"""What each account did, with what was written and what came of it; what the control plane itself does is left out."""


class NotReady(AssertionError):
    """A part ended, or was not ready in time; with the end of what it said."""


def mortal(command: list[str]) -> list[str]:
    """The command, so that it is killed when this process ends in whatever way."""
    setpriv = shutil.which("setpriv")
    return command if setpriv is None else [setpriv, "--pdeathsig", "KILL", "--", *command]


class ControlPlane:
    """The processes of one control plane. `url` is the API server's, `admin` a kubeconfig that may do everything."""

    def __init__(self, folder: Path, *, programs: Sequence[str] = CORE, goaway_chance: float = 0.0) -> None:
        self.folder = folder
        self.programs = tuple(programs)
        self._goaway_chance = goaway_chance
        self._files = {program: parts.require(program) for program in self.programs}
        self._running: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}
        etcd, self.port, controllers, scheduler = free_ports(4)
        self.etcd_url = f"http://127.0.0.1:{etcd}"
        self.url = f"https://127.0.0.1:{self.port}"
        self._ports = {"kube-controller-manager": controllers, SCHEDULER: scheduler}
        self.audit_log = folder / "audit.log"
        self.admin = folder / "admin.kubeconfig"

    def __enter__(self) -> ControlPlane:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._credentials()
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(AUDIT))
        try:
            for program in self.programs:
                self.start(program)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(list(self._running)):
            self.kill(program)
        self.http.clear()

    # ------------------------------------------------------------ processes

    def start(self, program: str) -> None:
        """Start a part and wait until it is ready."""
        log = (self.folder / f"{program}.log").open("ab")
        command = mortal([str(self._files[program]), *self._arguments(program)])
        process = subprocess.Popen(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        self._running[program] = (process, log)
        ready = {"etcd": self._etcd_ready, "kube-apiserver": self._api_ready}.get(program, lambda: True)
        self.until(ready, f"{program} is ready", program)

    def add(self, program: str) -> None:
        """Start a part that this plane was not begun with."""
        self._files[program] = parts.require(program)
        self.start(program)

    def kill(self, program: str) -> None:
        """kill -9."""
        process, log = self._running.pop(program)
        process.kill()
        process.wait()
        log.close()

    def stop(self, program: str) -> None:
        """SIGTERM, and wait for the end."""
        process, log = self._running.pop(program)
        process.terminate()
        process.wait(PATIENCE_S)
        log.close()

    def signal(self, program: str, number: signal.Signals) -> None:
        self._running[program][0].send_signal(number)

    def processes(self) -> dict[str, int]:
        """Program -> process id."""
        return {program: process.pid for program, (process, _) in self._running.items()}

    def until(self, true: Callable[[], bool], what: str, program: str = "kube-apiserver") -> None:
        """Wait for something that the control plane does. Errors: NotReady."""
        ends_at_s = time.monotonic() + PATIENCE_S
        while not true():
            process = self._running[program][0] if program in self._running else None
            ended = process is not None and process.poll() is not None
            if ended or time.monotonic() > ends_at_s:
                log = self.folder / f"{program}.log"
                said = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else []
                raise NotReady("\n".join([f"not seen: {what}{f' ({program} has ended)' if ended else ''}", *said]))
            time.sleep(0.05)

    def _etcd_ready(self) -> bool:
        try:
            return urllib3.request("GET", f"{self.etcd_url}/health", timeout=2, retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def _api_ready(self) -> bool:
        try:
            return self.http.request("GET", f"{self.url}/readyz", timeout=2, retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    # ------------------------------------------------------------ what they are started with

    def _credentials(self) -> None:
        authority = Authority(self.folder)
        self.ca = authority.certificate
        authority.server("apiserver", ["127.0.0.1"])
        service_account_keys(self.folder)
        users = {
            "admin": (ADMIN, ["system:masters"]),
            "kube-controller-manager": ("system:kube-controller-manager", []),
            "kube-scheduler": ("system:kube-scheduler", []),
        }
        for name, (user, groups) in users.items():
            certificate, key = authority.client(name, user, groups)
            credentials = {"client-certificate": str(certificate), "client-key": str(key)}
            self.kubeconfig(self.folder / f"{name}.kubeconfig", credentials)
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.folder / "admin.crt", self.folder / "admin.key")
        self.http = urllib3.PoolManager(16, ssl_context=context, maxsize=16)
        trusting = ssl.create_default_context(cafile=str(self.ca))
        self.anonymous = urllib3.PoolManager(16, ssl_context=trusting, maxsize=16)
        """For requests that bring a token."""

    def kubeconfig(self, path: Path, credentials: dict[str, str], url: str = "", namespace: str = "default") -> Path:
        """A kubeconfig file with one context; `credentials` as kubeconfig writes a user's."""
        cluster = {"server": url or self.url, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": credentials}],
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def _arguments(self, program: str) -> list[str]:
        folder = self.folder
        if program == "etcd":
            return [
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls={self.etcd_url}",
                f"--advertise-client-urls={self.etcd_url}",
                "--listen-peer-urls=http://127.0.0.1:0",
                "--unsafe-no-fsync=true",
            ]
        if program == "kube-apiserver":
            return [
                f"--etcd-servers={self.etcd_url}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",  # loopback is no address of an Endpoints object
                f"--secure-port={self.port}",
                f"--cert-dir={folder}",
                f"--tls-cert-file={folder / 'apiserver.crt'}",
                f"--tls-private-key-file={folder / 'apiserver.key'}",
                f"--client-ca-file={self.ca}",
                "--authorization-mode=RBAC",
                "--allow-privileged=true",
                "--service-cluster-ip-range=10.96.0.0/16",
                f"--service-account-issuer={_ISSUER}",
                f"--service-account-key-file={folder / 'sa.pub'}",
                f"--service-account-signing-key-file={folder / 'sa.key'}",
                f"--audit-policy-file={folder / 'audit.yaml'}",
                f"--audit-log-path={self.audit_log}",
                "--audit-log-mode=blocking-strict",
                f"--goaway-chance={self._goaway_chance}",
            ]
        own = folder / f"{program}.kubeconfig"
        common = [
            f"--kubeconfig={own}",
            f"--authentication-kubeconfig={own}",
            f"--authorization-kubeconfig={own}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._ports[program]}",
            f"--cert-dir={folder / program}",
        ]
        if program == SCHEDULER:
            return common
        return [
            *common,
            f"--service-account-private-key-file={folder / 'sa.key'}",
            f"--root-ca-file={self.ca}",
            "--use-service-account-credentials=true",
            "--node-monitor-grace-period=40s",
        ]

    # ------------------------------------------------------------ etcd's own door

    def compact(self) -> int:
        """Make etcd forget everything before now; the revision that it kept."""
        now = self._etcd("kv/range", {"key": "AA=="})["header"]["revision"]
        self._etcd("kv/compaction", {"revision": now, "physical": True})
        return int(now)

    def _etcd(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = urllib3.request("POST", f"{self.etcd_url}/v3/{what}", json=body, timeout=10, retries=False)
        assert answer.status == 200, answer.data
        found: dict[str, Any] = msgspec.json.decode(answer.data)
        return found
