"""A Session Manager on loopback: the service's API, its message gateway and an agent with a real shell."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import secrets
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Self

from session_manager_plugin.agent.agent import AgentSettings, Pace
from session_manager_plugin.agent.agent_versions import DEFAULT_AGENT_VERSION
from session_manager_plugin.agent.api import Api, Caller, StartedSession
from session_manager_plugin.agent.call_rate import CallRate
from session_manager_plugin.agent.callers import Callers
from session_manager_plugin.agent.certificate import SandboxCertificate
from session_manager_plugin.agent.default_inventory import DEFAULT_INVENTORY
from session_manager_plugin.agent.documents import DEFAULT_DOCUMENT, DOCUMENTS, InvalidParametersError
from session_manager_plugin.agent.faults import NO_FAULTS, Faults
from session_manager_plugin.agent.gateway import DATA_CHANNEL_PATH, Gateway
from session_manager_plugin.agent.inventory import Container, Inventory, Task
from session_manager_plugin.agent.key_service import LocalKeyService
from session_manager_plugin.agent.limits import NO_LIMITS, Limits
from session_manager_plugin.agent.quirks import Quirk, to_quirks
from session_manager_plugin.agent.services.access_requests import AccessRequests
from session_manager_plugin.agent.services.authorization import Authorization
from session_manager_plugin.agent.services.ec2 import Ec2
from session_manager_plugin.agent.services.ecs import Ecs
from session_manager_plugin.agent.services.identity import Identity
from session_manager_plugin.agent.services.instance_connect import InstanceConnect, PublicKey
from session_manager_plugin.agent.services.managed_instances import ManagedInstances
from session_manager_plugin.agent.services.rds import Rds
from session_manager_plugin.agent.services.run_command import RunCommand
from session_manager_plugin.agent.services.sessions import Sessions
from session_manager_plugin.agent.session import EndReason, SandboxSession
from session_manager_plugin.agent.signature import SignatureVerifier
from session_manager_plugin.errors import ApiError
from session_manager_plugin.utils.logging import register_secret

TARGET = "local"
"""The target of a sandbox that is created without targets."""
REGION = "us-east-1"
GATEWAY_SERVICE = "ssmmessages"
"""The service name in the signature of a websocket's opening request."""
MAX_ENDED_SESSIONS = 1000
"""Ended sessions that are remembered."""


class Sandbox:
    """A local Session Manager, on 127.0.0.1 while the context is entered::

        async with Sandbox() as sandbox:
            started = await sandbox.start_session()
            …  # a client opens started.stream_url with started.token
            await sandbox.session(started.session_id).ended.wait()

    AWS SDKs and the AWS CLI connect with ``endpoint_url`` and the credentials in ``environment``. The sandbox runs its
    clients' programs as the current user, so only the holder of these credentials or of a session's token is admitted.

    ``port`` 0 takes any free port. ``agent_version`` is sent in the handshake and decides the agent's abilities.
    ``handshake`` None behaves like the official agent, which makes no handshake for shells and interactive commands;
    True always makes one, False never. ``pace`` "real" keeps the official agent's sleeps: 1 s before a shell's first
    output, 1 ms after each message of most session types. ``shell`` is the command line of a plain session's shell, by
    default the official agent's ``sh``; raises ``ValueError`` for invalid quoting. With ``kms`` shells and commands are
    encrypted by a local key service that answers GenerateDataKey and Decrypt at the same endpoint. ``faults`` apply to
    every session; a session can also be disturbed at any time (``SandboxSession.disconnect``). ``quirks`` are the
    defects of the official agent to reproduce, ``Quirk`` members or their names; raises ``ValueError`` for another
    name.

    A websocket's opening request may be signed (SigV4, service ``ssmmessages``) with the sandbox's credentials. A wrong
    signature, or one more than 5 minutes old, is refused with status 403 and the reason. With ``require_signature``
    unsigned requests are refused too, and the credentials are temporary, with a session token.

    ``inventory`` is the contents of the account and the permissions of its user; it may be replaced at any time.
    ``targets`` are the ids of further instances. The first of them, or else the first one online in the inventory, is
    the default of ``start_session``. Every session runs on this machine, whatever its target. Without both there are
    ``local`` and a small inventory; ``local`` is also added to an inventory with nothing online.
    ``start_rate`` is the number of sessions a second above which StartSession fails with ThrottlingException; 0 means
    no limit. ``api_rate`` is the same for the calls of each other operation. ``api_calls`` counts the calls of each
    operation, by its IAM action, and ``throttled_calls`` those that failed so. With ``tls`` the sandbox serves HTTPS
    and WSS with a certificate of its own; ``ca_bundle`` is the file to trust while the context is entered. ``limits``
    are those of the service; ``end_session`` ends a session as the service does.

    ``stream_port`` is the port in stream URLs, by default (0) the sandbox's own; set it to make clients use a relay.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        agent_version: str = DEFAULT_AGENT_VERSION,
        handshake: bool | None = None,
        pace: Pace = "fast",
        shell: str | None = None,
        kms: bool = False,
        faults: Faults = NO_FAULTS,
        quirks: Iterable[str] = (),
        require_signature: bool = False,
        inventory: Inventory | None = None,
        targets: Sequence[str] = (),
        start_rate: float = 0.0,
        api_rate: float = 0.0,
        tls: bool = False,
        limits: Limits = NO_LIMITS,
    ) -> None:
        wanted_quirks = to_quirks(quirks)
        self._wanted_port = port
        self._limits = limits
        self._tls = tls
        self._certificate: SandboxCertificate | None = None
        if inventory is None:
            inventory = Inventory() if targets else DEFAULT_INVENTORY
            targets = targets or (TARGET,)
        elif not targets and not any(instance.is_connected for instance in inventory.instances):
            targets = (TARGET,)
        self.inventory = inventory.with_targets(targets)
        self._targets = tuple(targets)
        self._start_rate = CallRate(start_rate, time.monotonic)
        self.stream_port = 0
        self.faults = faults
        self.region = REGION
        self.key_service = LocalKeyService(region=REGION) if kms else None
        self._settings = AgentSettings(
            agent_version,
            handshake,
            "real" if Quirk.PACE in wanted_quirks else pace,
            shlex.split(shell) if shell else ["sh"],
            self.key_service,
            wanted_quirks,
        )
        prefix = "ASIA" if require_signature else "AKIA"  # temporary credentials, or those of a user
        self.access_key_id = prefix + base64.b32encode(secrets.token_bytes(10)).decode()
        self.secret_access_key = secrets.token_urlsafe(30)
        self.session_token = secrets.token_urlsafe(90) if require_signature else ""
        register_secret(self.access_key_id, owner=self)
        self._sessions: dict[str, SandboxSession] = {}
        self._started = 0
        self._authorization = Authorization(self._get_inventory, self.region)
        self._instance_connect = InstanceConnect(self._get_inventory)
        self._run_command = RunCommand(self._get_inventory, self.region)
        verifier = SignatureVerifier(
            self.access_key_id,
            self.secret_access_key,
            self.session_token,
            self.region,
            GATEWAY_SERVICE,
            required=require_signature,
        )
        callers = Callers(verifier, lambda: self.inventory.user_arn)
        operations = {
            **AccessRequests(self._get_inventory, callers.admit).operations,
            **Sessions(self).operations,
            **ManagedInstances(self._get_inventory, agent_version).operations,
            **Ec2(self._get_inventory).operations,
            **Ecs(self._get_inventory, self.region, self).operations,
            **Rds(self._get_inventory, self.region).operations,
            **self._instance_connect.operations,
            **self._run_command.operations,
            **Identity(self._get_inventory, callers.admit).operations,
            **({} if self.key_service is None else self.key_service.operations),
        }
        api = Api(callers.find, operations, self._authorization.check, rate=api_rate)
        self.api_calls, self.throttled_calls = api.calls, api.throttled
        self._gateway = Gateway(api.respond, self._sessions.get, callers.signature_refusal)

    async def __aenter__(self) -> Self:
        """Start listening. Raises ``OSError`` if the port is in use or the certificate cannot be written."""
        if self._tls:
            self._certificate = SandboxCertificate()
        try:
            await self._gateway.start(
                self._wanted_port, None if self._certificate is None else self._certificate.context
            )
        except BaseException:
            self._remove_certificate()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every session and stop listening. Returns when no process and no socket of a session is left."""
        sessions = list(self._sessions.values())
        for session in sessions:
            session.terminate(EndReason.CLOSED, "The sandbox was closed.")
        await self._gateway.close()
        await asyncio.gather(self._run_command.close(), *(session.wait_closed() for session in sessions))
        self._remove_certificate()

    def _remove_certificate(self) -> None:
        if self._certificate is not None:
            self._certificate.remove()
            self._certificate = None

    @property
    def port(self) -> int:
        """The TCP port; 0 before the context is entered."""
        return self._gateway.port

    @property
    def endpoint_url(self) -> str:
        """The URL of the API."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def ca_bundle(self) -> str | None:
        """The PEM file for clients to trust; None without TLS and outside the context."""
        return None if self._certificate is None else self._certificate.bundle

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with the credentials for the sandbox, its region and the certificate to trust.

        The region has two names: version 1 of the AWS CLI and botocore read only ``AWS_DEFAULT_REGION``.
        """
        key_service = {} if self.key_service is None else {"AWS_ENDPOINT_URL_KMS": self.endpoint_url}
        # By default, requests to loopback are not signed.
        signing = {"AWS_SESSION_TOKEN": self.session_token, "SMP_SIGN": "always"} if self.session_token else {}
        trusted = {} if self.ca_bundle is None else {"AWS_CA_BUNDLE": self.ca_bundle}
        return {
            **key_service,
            **trusted,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            **signing,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    @property
    def targets(self) -> tuple[str, ...]:
        """The possible targets of a session: the instances that are online, those given as ``targets`` first, and the
        containers."""
        inventory = self.inventory
        found = [instance.id for instance in inventory.instances if instance.is_connected]
        found += [
            cluster.target(task, container)
            for cluster in inventory.clusters
            for task in cluster.tasks
            for container in task.containers
            if _is_connected(task, container)
        ]
        first = [target for target in self._targets if target in found]
        return tuple(dict.fromkeys([*first, *found]))

    @property
    def sessions(self) -> Mapping[str, SandboxSession]:
        """All sessions by id: the active ones and the last ``MAX_ENDED_SESSIONS`` ended ones."""
        return MappingProxyType(self._sessions)

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """The public keys sent with SendSSHPublicKey that have not expired."""
        return self._instance_connect.keys

    def session(self, session_id: str) -> SandboxSession:
        """Return the session with this id. Raises ``KeyError``."""
        return self._sessions[session_id]

    async def start_session(
        self,
        document: str | None = None,
        parameters: Mapping[str, Sequence[str]] | None = None,
        target: str | None = None,
    ) -> StartedSession:
        """Start a session as StartSession does, by default with the first target. Raises ``ApiError``."""
        chosen = target or next(iter(self.targets), "")
        if not chosen:
            raise ApiError("TargetNotConnected", "No instance and no container of the inventory is connected.")
        return self.start(chosen, document, parameters or {})

    def end_session(self, session_id: str, text: str) -> None:
        """End a session as the service does, at a time limit or on termination, with ``text`` for the client. Does
        nothing if it has ended already. Raises ``KeyError``."""
        self._sessions[session_id].terminate(EndReason.ENDED, text)

    # Called by the API.

    def start(
        self,
        target: str,
        document: str | None,
        parameters: Mapping[str, Sequence[str]],
        *,
        caller: Caller | None = None,
        reason: str = "",
    ) -> StartedSession:
        """See ``SessionService``. Without a ``caller`` permissions and rates are not checked."""
        document = document and document.rpartition("document/")[2]  # the name in an ARN
        if caller is not None:
            if not self._start_rate.take():
                raise ApiError("ThrottlingException", "Rate exceeded")
            self._authorization.check_start(caller, target, document or "")
        version = self._connected_agent_version(target)
        name = document or DEFAULT_DOCUMENT
        if name not in DOCUMENTS:
            raise ApiError("InvalidDocument", f"Document with name {name} does not exist.")
        try:
            properties = DOCUMENTS[name].resolve(parameters)
        except InvalidParametersError as error:
            raise ApiError("InvalidParameters", str(error)) from None
        session_id = f"user-0{secrets.token_hex(8)}"
        session = SandboxSession(
            session_id,
            target=target,
            document=name,
            session_type=DOCUMENTS[name].session_type,
            properties=properties,
            settings=dataclasses.replace(self._settings, version=version),
            faults=self.faults,
            seed=str(self._started),
            limits=self._limits,
            owner=self.inventory.user_arn if caller is None else caller.arn,
            reason=reason,
            access_type="Standard" if caller is None or caller.targets is None else "JustInTime",
        )
        self._started += 1
        self._forget_ended()
        self._sessions[session_id] = session
        return self._with_token(session)

    def resume(self, session_id: str) -> StartedSession:
        """See ``SessionService``."""
        session = self._existing(session_id)
        if session.refuse_resume:
            session.refuse_resume -= 1
            raise ApiError(self.faults.resume_error, "Refused on purpose: this session is resumed later.")
        return self._with_token(session)

    def terminate(self, session_id: str) -> None:
        """See ``SessionService``."""
        self._existing(session_id).terminate()

    def _connected_agent_version(self, target: str) -> str:
        """Return the version of a target's agent. Raises ``ApiError`` if the target is unknown or not connected."""
        instance = self.inventory.instance(target)
        if instance is not None and instance.is_connected:
            return instance.agent_version or self._settings.version
        container = self.inventory.container(target)
        if container is not None and _is_connected(*container[1:]):
            return self._settings.version
        raise ApiError("TargetNotConnected", f"{target} is not connected.")

    def _get_inventory(self) -> Inventory:
        return self.inventory

    def _existing(self, session_id: str) -> SandboxSession:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise ApiError("DoesNotExistException", f"Session {session_id} does not exist.") from None

    def _with_token(self, session: SandboxSession) -> StartedSession:
        token = None if session.ended.is_set() else session.issue_token()
        # A numeric address, because some clients resolve "localhost" to ::1 first.
        port = self.stream_port or self.port
        url = f"{'wss' if self._tls else 'ws'}://127.0.0.1:{port}{DATA_CHANNEL_PATH}{session.session_id}?role=publish_subscribe"
        return StartedSession(session.session_id, url, token)

    def _forget_ended(self) -> None:
        ended = [session_id for session_id, session in self._sessions.items() if session.ended.is_set()]
        for session_id in ended[: max(0, len(ended) - MAX_ENDED_SESSIONS)]:
            del self._sessions[session_id]


def _is_connected(task: Task, container: Container) -> bool:
    return task.execute_command and task.status == container.status == "RUNNING" and container.online
