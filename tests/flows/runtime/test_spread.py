"""Series on a cluster of two processes: the same files and the same report as from one."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
import torch
from dask.distributed import Client, LocalCluster, Security
from distributed.core import rpc
from helpers.pacs import write_ct

from flows.runtime.dask_runner import dask_runner
from pipeline.core.errors import ConfigError


@pytest.mark.parametrize("given", ["tcp://10.0.0.1:8786", "10.0.0.1:8786", "0", "http://h"])
def test_other_computers_need_tls(given):
    with pytest.raises(ConfigError, match="tls://HOST:PORT"):
        dask_runner(given)


def test_another_user_of_this_computer_cannot_connect():
    """Who can connect runs code as this user."""
    with LocalCluster(**dask_runner("1").cluster_kwargs) as cluster:
        with Client(cluster) as own:
            assert own.submit(sum, [1, 2]).result(60) == 3
        (worker,) = cluster.scheduler_info["workers"]
        for address in (cluster.scheduler_address, worker):
            assert address.startswith("tls://127.0.0.1:")
            for known in (Security.temporary(), None):  # certificates of one's own, none
                stranger = address if known else address.replace("tls://", "tcp://")
                with pytest.raises(OSError, match=r"connect|before comm was established"):
                    asyncio.run(asyncio.wait_for(asked(stranger, known), 20))


async def asked(address: str, security: Security | None) -> object:
    async with rpc(
        address, connection_args=security.get_connection_args("client") if security else {}
    ) as peer:
        return await peer.identity()


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_two_processes_give_what_one_gives_byte_for_byte(ldct, tmp_path, monkeypatch):
    root = str(Path(__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, *filter(None, sys.path)]))
    source = tmp_path / "in"
    for number in (1, 2, 3):
        write_ct(source / str(number), number)
    broken = sorted((source / "3").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:-100])
    torch.set_num_threads(1)
    arguments = "apply", "redcnn@pretrained", source, "--json", "--out"
    one = ldct(*arguments, tmp_path / "one")
    two = ldct(*arguments, tmp_path / "two", "--spread", "2")
    assert (one.code, two.code) == (4, 4), one.err + two.err
    assert two.json == one.json
    assert len(one.json["exported"]) >= 2
    assert files(tmp_path / "two") == files(tmp_path / "one")
