"""The TLS context of a data channel, which always verifies certificates."""

from __future__ import annotations

import os
import ssl

from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.utils.text import ssl_text


def ssl_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return a client context that trusts ``ca_bundle``, or by default the platform's store (or ``SSL_CERT_FILE``).

    If the platform's store is empty, botocore's is used. Raises ``ConfigurationError`` if the bundle cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"the CA bundle {ca_bundle} cannot be used: it has no certificate in PEM form ({ssl_text(error)})"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"the CA bundle {ca_bundle} cannot be read: {error.strerror or type(error).__name__}"
        ) from error
    if ca_bundle is None and _is_empty(context):
        import botocore.httpsession

        context.load_verify_locations(botocore.httpsession.where())
    return context


def _is_empty(context: ssl.SSLContext) -> bool:
    """Return whether the store is empty: no CA is loaded, and OpenSSL has no directory to load any from."""
    directory = ssl.get_default_verify_paths().capath
    return context.cert_store_stats()["x509_ca"] == 0 and not (directory and os.listdir(directory))
