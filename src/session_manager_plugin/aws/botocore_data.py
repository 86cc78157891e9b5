"""botocore's descriptions of services and endpoints, read for less time and memory than botocore takes by itself.

Every function here blocks; call it in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, overload

_CALLED = frozenset({"ec2", "ecs", "kms", "rds", "ssm", "sts", "oidc", "portal.sso"})
"""The services that this package or a credential provider calls, as botocore's ``endpoints.json`` names them."""


@cache
def data_loader() -> Any:
    """Return botocore's ``Loader``, the same one each time: a process that resumes often would read the data each time,
    for 6 MB and 0.1 s. Of the endpoints of all services only those in ``_CALLED`` are kept.

    Data is read when a client is made: most credentials are found without one.
    """
    from botocore.loaders import create_loader

    loader = create_loader(os.environ.get("AWS_DATA_PATH"))
    loader.file_loader = _JsonFiles(loader.file_loader)
    loader.list_available_services = partial(_ServiceNames, loader, loader.list_available_services)
    load_data = loader.load_data

    def load(name: str) -> Any:
        data = load_data(name)  # the loader returns the same object each time
        if name == "endpoints":
            for partition in data["partitions"]:
                services = partition["services"]
                partition["services"] = {name: services[name] for name in services.keys() & _CALLED}
        return data

    loader.load_data = load
    return loader


class _JsonFiles:
    """Loads what botocore's ``JSONFileLoader`` loads, in half the time: a ``dict`` keeps the order of its keys too, and
    is made faster than the ``OrderedDict`` that botocore asks for."""

    def __init__(self, botocores: Any) -> None:
        self._botocores = botocores

    def exists(self, file_path: str) -> bool:
        """Whether there is a file at this path, which has no suffix."""
        return bool(self._botocores.exists(file_path))

    def load_file(self, file_path: str) -> Any:
        """Return the data of the file at this path, or None if there is no such file."""
        import gzip
        import json

        for suffix, open_file in ((".json", open), (".json.gz", gzip.open)):
            if os.path.isfile(file_path + suffix):
                with open_file(file_path + suffix, "rb") as file:
                    return json.loads(file.read())
        return None


class _ServiceNames(Sequence[str]):
    """The names of the services that have data of one type, in order.

    botocore asks whether a service is among them before it loads its data: for that its own directory is listed. Those
    of all services, some 400, are listed when the names themselves are used.
    """

    def __init__(self, loader: Any, list_all: Callable[[str], list[str]], type_name: str) -> None:
        self._loader = loader
        self._list_all = list_all
        self._type_name = type_name

    def __contains__(self, name: object) -> bool:
        from botocore.exceptions import DataNotFoundError

        try:
            return bool(self._loader.list_api_versions(name, self._type_name))
        except DataNotFoundError:
            return False

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._list_all(self._type_name)[index]

    def __len__(self) -> int:
        return len(self._list_all(self._type_name))
