"""Work in a thread for requests that come faster than it can be done."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")


class Newest(Generic[Request, Result]):
    """Computes one request at a time; of those that wait meanwhile, only the newest.

    Args:
        pool: where it computes.
        compute: called there.
        show: called with each result on the event loop.
        failed: called there with what ``compute`` raised.
    """

    def __init__(
        self,
        pool: Executor,
        compute: Callable[[Request], Result],
        show: Callable[[Result], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._pool, self._compute, self._show, self._failed = pool, compute, show, failed
        self._wanted: Request | None = None
        self._task: asyncio.Task[None] | None = None

    def ask(self, request: Request) -> None:
        """Want this result, and those of earlier requests no longer; from the event loop."""
        self._wanted = request
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while (request := self._wanted) is not None:
            self._wanted = None
            try:
                result = await loop.run_in_executor(self._pool, self._compute, request)
            except Exception as error:  # whatever it is, the page says so and goes on
                self._failed(error)
            else:
                self._show(result)
