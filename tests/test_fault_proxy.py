from __future__ import annotations

from dataclasses import replace

import pytest

from storage.errors import StoreUnavailable
from storage.s3 import S3, S3Config
from tests.conftest import Bucket, new_bucket
from tests.fault_proxy import FAULTS, fault_proxy

DATA = b"signature" * 20_000


@pytest.fixture
def bucket(s3_service: S3Config) -> Bucket:
    return new_bucket(s3_service)


def test_a_proxy_without_faults_is_not_noticed(bucket: Bucket) -> None:
    bucket.put("a b/ü.png", DATA)
    with fault_proxy(str(bucket.config.endpoint), share=0, seed=1) as proxy:
        store = S3(replace(bucket.config, endpoint=proxy.endpoint))
        assert store.read(bucket.bucket, "a b/ü.png", 10**6) == DATA
        store.write(bucket.bucket, "b", b"")
        store.check(bucket.bucket)
        assert not proxy.faults


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_an_outage_to_the_store(
    bucket: Bucket, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("a", DATA)
    with fault_proxy(str(bucket.config.endpoint), share=1, seed=1, hang=2) as proxy:
        monkeypatch.setattr(proxy, "draw", lambda: fault)
        config = replace(bucket.config, endpoint=proxy.endpoint, retries=0, read_timeout=1)
        with pytest.raises(StoreUnavailable):
            S3(config).read(bucket.bucket, "a", 10**6)


def test_a_share_of_the_reads_is_spoilt(bucket: Bucket) -> None:
    with fault_proxy(str(bucket.config.endpoint), share=0.1, seed=1) as proxy:
        drawn = [proxy.draw() for _ in range(2000)]
    assert sum(fault is not None for fault in drawn) == pytest.approx(200, abs=50)
    assert set(proxy.faults) == set(FAULTS)
