"""Rights from Role, ClusterRole and their bindings, as a chart renders them; and which of them were never used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.kubernetes.status import ApiError

ADMIN = "system:admin"


@dataclass(frozen=True, slots=True)
class Attributes:
    """What authorization sees of a request."""

    user: str
    verb: str
    group: str
    resource: str
    """With its subresource: `deployments/scale`."""
    namespace: str
    name: str
    path: str = ""
    """Of a request that is not for a resource."""


@dataclass(frozen=True, slots=True)
class Permission:
    """One cell of the table: a role lets a verb be used on a resource."""

    role: str
    namespace: str
    """"" = everywhere."""
    verb: str
    group: str
    resource: str
    names: tuple[str, ...] = ()

    def allows(self, asked: Attributes) -> bool:
        if self.namespace and asked.namespace != self.namespace:
            return False
        if self.names and asked.name not in self.names:
            return False
        return (
            self.verb in ("*", asked.verb)
            and self.group in ("*", asked.group)
            and self.resource in ("*", asked.resource)
        )


@dataclass(slots=True)
class Rbac:
    """Who may do what. Subjects are user names (`system:serviceaccount:NAMESPACE:NAME`)."""

    granted: dict[str, list[Permission]] = field(default_factory=dict)
    used: set[Permission] = field(default_factory=set)

    @classmethod
    def from_documents(cls, documents: Iterable[Mapping[str, Any]], subject: str | None = None) -> Rbac:
        """From rendered manifests; other kinds are skipped.

        With `subject`, every role is also taken as bound to it where no binding of the documents names the role:
        a Role in its own namespace, a ClusterRole everywhere.
        """
        documents = list(documents)
        rbac = cls()
        roles = {_identity(d): d for d in documents if d.get("kind") in ("Role", "ClusterRole")}
        bound: set[tuple[str, str, str]] = set()
        for binding in (d for d in documents if d.get("kind") in ("RoleBinding", "ClusterRoleBinding")):
            inside = binding["metadata"].get("namespace", "") if binding["kind"] == "RoleBinding" else ""
            ref = binding["roleRef"]
            identity = (ref["kind"], inside if ref["kind"] == "Role" else "", ref["name"])
            if identity not in roles:
                raise AssertionError(
                    f"binding {binding['metadata']['name']} names a role that is not there: {identity}"
                )
            bound.add(identity)
            for who in binding.get("subjects", ()):
                rbac._grant(_user(who, inside), roles[identity], inside)
        if subject is not None:
            for identity, role in roles.items():
                if identity not in bound:
                    rbac._grant(subject, role, identity[1])
        return rbac

    def _grant(self, user: str, role: Mapping[str, Any], namespace: str) -> None:
        permissions = self.granted.setdefault(user, [])
        for rule in role.get("rules", ()):
            for group in rule.get("apiGroups", ()):
                for resource in rule.get("resources", ()):
                    permissions.extend(
                        Permission(
                            role["metadata"]["name"],
                            namespace,
                            verb,
                            group,
                            resource,
                            tuple(rule.get("resourceNames", ())),
                        )
                        for verb in rule["verbs"]
                    )

    def check(self, asked: Attributes) -> None:
        """Errors: ApiError 403."""
        if asked.user == ADMIN or asked.path:
            return
        found = self.permits(asked)
        if found:
            self.used.update(found)
            return
        place = f' in the namespace "{asked.namespace}"' if asked.namespace else " at the cluster scope"
        plural = asked.resource.partition("/")[0]
        qualified = f"{plural}.{asked.group}" if asked.group else plural
        named = f' "{asked.name}"' if asked.name else ""
        raise ApiError(
            403,
            f'{qualified}{named} is forbidden: User "{asked.user}" cannot {asked.verb} resource "{asked.resource}" '
            f'in API group "{asked.group}"{place}',
            details={"name": asked.name, "group": asked.group, "kind": plural},
        )

    def permits(self, asked: Attributes) -> list[Permission]:
        """The permissions that would let it through, without counting them as used."""
        return [p for p in self.granted.get(asked.user, ()) if p.allows(asked)]

    def unused(self, user: str) -> list[Permission]:
        """Permissions that no request needed, in order of the documents."""
        return [p for p in self.granted.get(user, ()) if p not in self.used]


def _identity(role: Mapping[str, Any]) -> tuple[str, str, str]:
    namespace = role["metadata"].get("namespace", "") if role["kind"] == "Role" else ""
    return (role["kind"], namespace, role["metadata"]["name"])


def _user(subject: Mapping[str, Any], namespace: str) -> str:
    if subject["kind"] == "ServiceAccount":
        return f"system:serviceaccount:{subject.get('namespace') or namespace}:{subject['name']}"
    return str(subject["name"])
