from service.observability.request_record import RequestRecord


def test_header_tells_milliseconds() -> None:
    times = RequestRecord(tokenize=0.0012, queue=1.5, infer=0.0, decode=0.0000004)
    assert times.header() == (
        "tokenize;dur=1.200, queue;dur=1500.000, infer;dur=0.000, decode;dur=0.000"
    )
