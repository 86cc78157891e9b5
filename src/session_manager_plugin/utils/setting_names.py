"""How messages name the settings of a program: they differ between ``smp`` and ``session-manager-plugin``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SettingNames:
    """The names of a program and of its settings in messages."""

    program: str
    ca_bundle: str
    proxy: str
    dial: str
    """How to connect to another host than that of the URL; empty if there is no way."""
    insecure: str
    """How to allow a connection without TLS; empty if there is no way."""
    keepalive: str
    """How the interval of pings is set, with a place for the seconds."""
    sign: str
    """How requests to hosts that are not AWS's are signed."""


SMP_SETTINGS = SettingNames(
    program="smp",
    ca_bundle="--ca-bundle or AWS_CA_BUNDLE",
    proxy="--proxy or HTTPS_PROXY",
    dial="--dial",
    insecure="--insecure",
    keepalive="--keepalive {}",
    sign="--sign always",
)
PLUGIN_SETTINGS = SettingNames(
    program="this plugin",
    ca_bundle="AWS_CA_BUNDLE",
    proxy="HTTPS_PROXY",
    dial="",
    insecure="",
    keepalive="SMP_KEEPALIVE={}",
    sign="SMP_SIGN=always",
)
"""``session-manager-plugin`` has no options: the AWS CLI writes its command line."""
