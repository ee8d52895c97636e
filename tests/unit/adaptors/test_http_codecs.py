from vanrouter.adaptors.http_codecs import CLIENT_CODECS, SERVER_CODECS, STREAM_CODECS, STREAM_VERSIONS
from vanrouter.adaptors.http_config import HTTP1


def test_each_version_has_its_codecs() -> None:
    assert HTTP1 in CLIENT_CODECS
    for version, codec in CLIENT_CODECS.items():
        assert codec.alpn in SERVER_CODECS
        assert STREAM_CODECS[STREAM_VERSIONS[version]] is SERVER_CODECS[codec.alpn]
