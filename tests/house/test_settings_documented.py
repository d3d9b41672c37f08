"""Every setting has a description; the generated page shows no secret."""

from __future__ import annotations

from docs.site.settings_page import settings_page
from stream_ad.settings.template import sections


def test_every_section_and_setting_is_described() -> None:
    bare = [title for title, model in sections().items() if not model.__doc__]
    bare += [
        f"{title} {name}"
        for title, model in sections().items()
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert not bare


def test_the_page_holds_no_secret_default() -> None:
    assert "SecretStr" not in settings_page()
