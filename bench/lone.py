"""One job at a time on an idle worker, beside the sum of its parts measured alone."""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import aio_pika
import aiohttp
from aio_pika.abc import AbstractChannel

from bench import files, sample
from bench.contestants import OURS
from bench.lab import Lab
from bench.payload import SMALL
from bench.queues import RESULTS, Queues
from bench.sample import Figures
from bench.setting import Setting
from worker.ccfs import DOWNLOAD_PATH

_BODY = b'{"request":{"version":"2.0"},"msgBody":{"billFileName":"20260131_1.zip"}}'


async def job(lab: Lab, queues: Queues, setting: Setting) -> Figures:
    """From publishing a job to receiving its event, one after another."""
    async with AsyncExitStack() as stack:
        root = stack.enter_context(lab.storage(setting))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        around = lab.surroundings(setting, root)
        await queues.add_jobs(OURS.queue, OURS.queue_arguments, [])
        stack.push_async_callback(queues.clear, OURS.queue)
        stack.enter_context(sample.running(OURS, around, setting, folder / "output"))
        connection = await stack.enter_async_context(await aio_pika.connect(lab.amqp_url))
        channel = await connection.channel(publisher_confirms=False)
        spans = await _one_by_one(channel, setting)
    return {"p50_ms": median(spans[len(spans) // 10 :])}


async def _one_by_one(channel: AbstractChannel, setting: Setting) -> list[float]:
    spans = []
    results = await channel.get_queue(RESULTS, ensure=False)
    async with results.iterator(no_ack=True) as events:
        for number in range(setting.jobs):
            body = f'{{"appId": "{SMALL.name}", "billFileName": "20260131_{number:08}.zip"}}'.encode()
            started = time.perf_counter()
            await channel.default_exchange.publish(aio_pika.Message(body, delivery_mode=2), OURS.queue)
            await anext(events)
            spans.append((time.perf_counter() - started) * 1000)
    return spans


async def parts(lab: Lab, queues: Queues, setting: Setting) -> Figures:
    """The request, the durable file, the confirm and the ack, each measured alone and added up."""
    with lab.storage(setting) as root:
        content = os.urandom(setting.payload.size)
        figures = {
            "request_ms": await _request(lab, setting),
            "file_ms": await _repeated(setting, lambda number: _file(root, number, content)),
            **await _broker(lab, queues, setting),
        }
    return {**figures, "p50_ms": sum(figures.values())}


async def _request(lab: Lab, setting: Setting) -> float:
    headers = {"Authorization": f"auth-v2/{setting.payload.name}/"}
    async with aiohttp.ClientSession() as http:

        async def post(_: int) -> None:
            async with http.post(lab.files.plain + DOWNLOAD_PATH, data=_BODY, headers=headers) as response:
                await response.read()

        return await _repeated(setting, post)


async def _file(root: Path, number: int, content: bytes) -> None:
    files.write_durably(root / f".{number}.part", root / f"{number}.zip", content)


async def _broker(lab: Lab, queues: Queues, setting: Setting) -> Figures:
    """Publishing until the confirm; and from publishing a message to holding and acknowledging it."""
    queue = f"{OURS.queue}.alone"
    await queues.add_jobs(queue, {"x-queue-type": "quorum"}, [])
    async with await aio_pika.connect(lab.amqp_url) as connection:
        channel = await connection.channel()
        message = aio_pika.Message(_BODY, delivery_mode=2)

        async def publish(_: int) -> None:
            await channel.default_exchange.publish(message, queue)

        confirm = await _repeated(setting, publish)
        consumed = await channel.get_queue(queue, ensure=False)
        await consumed.purge()
        unconfirmed = await connection.channel(publisher_confirms=False)
        async with consumed.iterator() as messages:

            async def there_and_back(_: int) -> None:
                await unconfirmed.default_exchange.publish(message, queue)
                await (await anext(messages)).ack()

            delivery = await _repeated(setting, there_and_back)
    await queues.clear(queue)
    return {"confirm_ms": confirm, "delivery_ms": delivery}


async def _repeated(setting: Setting, step: Callable[[int], Awaitable[None]]) -> float:
    """The median of a step's milliseconds."""
    spans = []
    for number in range(setting.jobs):
        started = time.perf_counter()
        await step(number)
        spans.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(0)
    return median(spans)
