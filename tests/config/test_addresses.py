"""`LAUNCHQ_NOTIFY`: how addresses are written, and that no error quotes one."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import SettingsError, load
from config.addresses import KINDS

KEY = "token-0123456789"
WHSEC = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def test_several_addresses_with_their_secrets(tmp_path: Path) -> None:
    file = tmp_path / "addresses"
    file.write_text(
        f"feishu:https://h/{KEY}#secret=abc\njson:http://127.0.0.1:80/x#secret={WHSEC}, wecom:https://h/y?key=1\n"
    )
    settings = load({"LAUNCHQ_NOTIFY_FILE": str(file)})
    assert [(one.service, one.url, one.secret) for one in settings.notify_addresses] == [
        ("feishu", f"https://h/{KEY}", "abc"),
        ("json", "http://127.0.0.1:80/x", WHSEC),
        ("wecom", "https://h/y?key=1", ""),
    ]
    assert KEY not in repr(settings) + repr(settings.notify_addresses)
    [mark, *_] = [one.mark for one in settings.notify_addresses]
    assert mark.startswith("feishu-")
    assert KEY not in mark
    assert load({}).notify_addresses == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"https://h/{KEY}", "address 1 must begin with feishu:, dingtalk:, wecom:, slack: or json:"),
        (f"slack:https://h/x, wecom:{KEY}", "address 2 must go on with a URL: wecom:https://..."),
        (f"feishu:http://h.example/{KEY}", "address 1 must be https"),
        (f"json:https://me:{KEY}@h/", "address 1 must hold no user name or password"),
        (f"json:https://h:0/{KEY}", "address 1 must have a port"),
        (f"slack:https://h/x#secret={KEY}", "slack checks no signature"),
        (f"dingtalk:https://h/x#{KEY}", "nothing behind its # but secret= and the secret, SEC..."),
        (f"json:https://h/x#secret={KEY}", "whsec_ and 24 to 64 bytes in base64"),
        (f"json:https://h/{KEY} json:https://h/{KEY}", "address 2 is there twice"),
        (" , ", "must hold an address"),
    ],
)
def test_what_is_wrong_is_said_without_the_address(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        load({"LAUNCHQ_NOTIFY": text})
    assert str(error.value).startswith("LAUNCHQ_NOTIFY: ")
    assert said in str(error.value)
    assert KEY not in str(error.value)


def test_what_is_told_can_be_chosen() -> None:
    assert load({}).notify_on == KINDS
    assert load({"LAUNCHQ_NOTIFY_ON": "batchDone, needsPerson"}).notify_on == ("batchDone", "needsPerson")
    with pytest.raises(
        SettingsError, match="LAUNCHQ_NOTIFY_ON: must be one or several of batchDone, jobFailed"
    ):
        load({"LAUNCHQ_NOTIFY_ON": "everything"})
