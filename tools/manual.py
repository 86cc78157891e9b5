"""What man pages say beyond the help of the commands. The keys are names of pages; "" is for all that have none."""

from __future__ import annotations

STATUSES_OF_SESSIONS = (
    ("0", "The session ended normally. A command without a terminal gives its own status instead."),
    ("2", "Usage: an unknown option, a missing token, an impossible URL."),
    ("130", "Interrupted before the session began."),
    (
        "255",
        (
            "Our side failed: the connection could not be opened, was refused, or was lost and not resumed; the "
            "protocol was broken; the session was left with ~. or closed by the far end with an error. One line "
            "on standard error says "
            "which. A remote command may also end with 255, as with ssh(1)."
        ),
    ),
    ("128+n", "Killed by signal n, after the terminal was given back and the session was left."),
)
EXIT_STATUS: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("0", "All went well."),
        ("2", "Usage: an unknown option or argument."),
        ("255", "It failed; one sentence on standard error says why."),
    ),
    "smp": (("0", "The command ended normally."), ("1", "smp probe: something failed."), *STATUSES_OF_SESSIONS[1:]),
    "smp-connect": STATUSES_OF_SESSIONS,
    "smp-demo": STATUSES_OF_SESSIONS,
    "smp-ssh-proxy": (
        ("0", "ssh or the target has closed the connection."),
        *(row for row in STATUSES_OF_SESSIONS if row[0] in ("2", "255")),
        ("128+n", "Killed by signal n: SIGHUP is how ssh ends it."),
    ),
    "smp-exec": (
        ("0-255", "That of the command."),
        (
            "2",
            "Usage: an unknown option, a target that several instances match, standard input that nothing would read.",
        ),
        ("124", "The command did not end within --timeout."),
        (
            "255",
            "Something failed here or on the way, or an unknown signal has killed the command; a message says which.",
        ),
        ("128+n", "smp or the command was killed by signal n; one sentence says which."),
    ),
    "smp-sandbox": (
        ("2", "Usage: an unknown option, an impossible value."),
        ("130", "Ended with Ctrl-C (killed by SIGINT), which is how it ends normally."),
        ("255", "It cannot listen on the port."),
        ("128+n", "Killed by signal n."),
    ),
    "smp-probe": (
        ("0", "Everything passed; warnings are no failures."),
        ("1", "Something failed. What and what to do stands in the report."),
        ("2", "Usage: an unknown option, an impossible URL."),
        ("255", "The probe itself could not be run."),
        ("128+n", "Killed by signal n."),
    ),
}
_COMMON = (
    ("NO_COLOR", "If it is set and not empty, no colours are used, unless --color says otherwise."),
    ("CLICOLOR_FORCE", "If it is set and not 0, colours are used also where the output is no terminal."),
    ("TERM", "A terminal that is dumb, or unknown, gets neither colours nor a status line unless they are asked for."),
    ("XDG_STATE_HOME", "Where the log of -vv is kept; a path that is not absolute is ignored."),
)
_AWS = (
    ("AWS_PROFILE", "The profile whose credentials are used, unless --profile is given."),
    ("AWS_REGION", "The region, unless --region is given."),
    ("AWS_ENDPOINT_URL_SSM", "The endpoint of the Systems Manager API, unless --endpoint-url is given."),
    ("AWS_ENDPOINT_URL_KMS", "The endpoint of KMS, which is asked for the key of an encrypted session."),
    ("AWS_USE_DUALSTACK_ENDPOINT", "If true, AWS is called at endpoints that have IPv6 addresses too."),
    ("AWS_USE_FIPS_ENDPOINT", "If true, AWS is called at its FIPS endpoints."),
)
_NETWORK = (
    ("HTTPS_PROXY", "The proxy for the connection, unless --proxy is given. Loopback is never proxied."),
    ("NO_PROXY", "Hosts, separated by commas, that are connected to without a proxy."),
    ("SSL_CERT_FILE", "Certificates to trust, where neither --ca-bundle nor AWS_CA_BUNDLE names any."),
)
ENVIRONMENT: dict[str, tuple[tuple[str, str], ...]] = {
    "smp": _COMMON,
    "connect": (
        ("SMP_TOKEN", "The token. It is removed from the environment, so that no program started from here gets it."),
        ("SMP_RECORD_DIR", "A directory in which every shell is recorded, as TIME-SESSION.cast."),
        *_AWS,
        *_NETWORK,
        *_COMMON,
    ),
    "probe": (*_AWS, *_NETWORK, *_COMMON),
    "ssh-proxy": (*_AWS, *_NETWORK, *_COMMON),
    "ssh-config": (
        ("XDG_CONFIG_HOME", "Where the file of --write is; a path that is not absolute is ignored."),
        *_AWS,
        *_COMMON,
    ),
    "demo": (("SHELL", "The shell of the session; sh if it cannot be run."), *_COMMON),
    "sandbox": _COMMON,
    "completion": _COMMON,
    "help": (("MANPAGER", "What man(1) shows a page with."), *_COMMON),
}
_LOG = (
    "$XDG_STATE_HOME/smp/smp.log",
    (
        "What happens in detail, if -vv is given at a terminal without --log-file; in ~/.local/state if the variable "
        "is not set. Only the user can read it, and no line holds a token. At 4 MiB it becomes smp.log.1."
    ),
)
_SSH_KEY = (
    "$XDG_STATE_HOME/smp/ssh/ID.USER",
    (
        "The private key that --push-key makes for a connection, for 60 seconds; in ~/.local/state if the variable is "
        "not set. Only the user can read it."
    ),
)
FILES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (_LOG,),
    "smp-ssh-proxy": (_SSH_KEY, _LOG),
    "smp-ssh-config": (
        ("$XDG_CONFIG_HOME/smp/ssh_config", "The blocks of --write; in ~/.config if the variable is not set."),
        _SSH_KEY,
        _LOG,
    ),
}
GROUP_EXAMPLES = """
smp demo                                     (a shell through the whole protocol, on this machine)
smp connect --url URL --token-file FILE      (a session that somebody started for you)
smp help --man connect                       (all there is to know about a command)
"""
SEE_ALSO: dict[str, tuple[str, ...]] = {
    "smp-connect": ("probe", "sandbox"),
    "smp-demo": ("connect", "sandbox"),
    "smp-sandbox": ("connect", "demo"),
    "smp-probe": ("connect",),
    "smp-ssh-config": ("ssh-proxy", "ls"),
    "smp-ssh-proxy": ("ssh-config", "start"),
}
DETAILS: dict[str, tuple[tuple[str, tuple[str | tuple[str, str], ...]], ...]] = {
    "smp-connect": (
        (
            "ESCAPES",
            (
                (
                    "At a terminal, at the start of a line, these are for smp and not for the remote, as with "
                    "ssh(1). "
                    "The character is ~ unless --escape-char says otherwise. A paste never triggers one. In a "
                    "session of "
                    "ssh(1) that smp carries, or in smp started from ssh(1), the outer program takes ~. for "
                    "itself; type "
                    "~~. for the inner one."
                ),
                ("~.", "Leave. It always works, also while connecting or reconnecting."),
                ("~^Z", "Suspend smp."),
                ("~#", "List forwarded connections."),
                ("~i", "Show details of the connection."),
                ("~r", "Reconnect now."),
                ("~B", "Show or hide the status line."),
                ("~?", "List the escapes that apply."),
                ("~~", "The character itself."),
            ),
        ),
    ),
}
"""Sections of a page by their titles: paragraphs, and tags with their texts."""
BUGS: dict[str, tuple[str, ...]] = {
    "smp-connect": (
        (
            "The protocol has no end-of-file and no half-close: the end of the input is typed as Ctrl-D (see "
            "--stdin-eof), and a forwarded connection whose program has finished sending stays open until the far end "
            "closes. If the far end sends nothing for 5 seconds, the connection is reset: a server that waits for the "
            "end of its input cannot be used."
        ),
        "A session with a terminal has no exit status: it ends with 0, whatever the shell said.",
        "Pings keep the connection alive, but do not put off the idle timeout of the service; only data does.",
    ),
}
