"""Making a family and its replicas."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.multisite.creation import create_family, import_replica, make_replica
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.importing import NotApplied
from tests.multisite.mail import append, create, message, same_everywhere
from tests.multisite.world import TRUSTING, Site, carry


@pytest.fixture
def boston(tmp_path: Path) -> Site:
    """A family of one with mail of before and after."""
    site = Site("boston", tmp_path / "boston")
    create(site, "user.bob", "projects")
    append(site, "user.bob", message("before", 3000))
    create_family(site.config, "mail", "boston", "b.example.org")
    append(site, "user.bob", *(message(number, 3000) for number in range(5)))
    return site


def made_for(boston: Site, name: str, where: Path, options: ExportOptions | None = None) -> list[Path]:
    where.mkdir(exist_ok=True)
    with boston.member() as member:
        return make_replica(
            member, name, "", lambda n, _s: where / f"repl_{name}_{n}", options or ExportOptions()
        ).paths


def import_at(site: Site, paths: list[Path]) -> None:
    import_replica(site.config, paths, TRUSTING, warn=site.heard.append, notice=site.heard.append)


def test_all_the_mail_that_is_there_is_recorded_and_comes_along(boston: Site, tmp_path: Path) -> None:
    sanfran = Site("sanfran", tmp_path / "sanfran")
    import_at(sanfran, made_for(boston, "sanfran", tmp_path / "t"))
    assert len(sanfran.guids("bob")["user.bob"]) == 6 and same_everywhere([boston, sanfran])
    with boston.member() as member:
        birth = member.family.find("sanfran").key_history
        assert birth is not None and len(birth.links) == 1, "it has keys from its birth"
    carry(sanfran, boston, tmp_path / "t")
    with boston.member() as one, sanfran.member() as other:
        secret, history = other.secret(), one.family.find("sanfran").key_history
        assert secret is not None and history is not None
        assert history.current == secret.public != birth.current, "it has told its own keys"
        assert one.family.id == other.family.id


def test_the_parts_of_a_creation_packet_come_in_any_order_and_all(boston: Site, tmp_path: Path) -> None:
    paths = made_for(boston, "sanfran", tmp_path / "t", ExportOptions(max_size=6000))
    assert len(paths) > 2
    sanfran = Site("sanfran", tmp_path / "sanfran")
    with pytest.raises(NotApplied, match="not all parts"):
        import_at(sanfran, paths[:-1])
    import_at(sanfran, paths[::-1])
    assert same_everywhere([boston, sanfran])


def test_a_part_that_is_named_twice_is_refused(boston: Site, tmp_path: Path) -> None:
    (path,) = made_for(boston, "sanfran", tmp_path / "t")
    with pytest.raises(NotApplied, match="not all parts"):
        import_at(Site("x", tmp_path / "x"), [path, path])


def test_parts_of_two_do_not_belong_together(boston: Site, tmp_path: Path) -> None:
    one, other = (made_for(boston, name, tmp_path / "t") for name in ("sanfran", "paris"))
    with pytest.raises(NotApplied, match="do not belong together"):
        import_at(Site("x", tmp_path / "x"), [*one, *other])


def test_a_packet_that_creates_nothing_makes_nobody(boston: Site, tmp_path: Path) -> None:
    sanfran = Site("sanfran", tmp_path / "sanfran")
    import_at(sanfran, made_for(boston, "sanfran", tmp_path / "t"))
    append(boston, "user.bob", message("more"))
    paths = boston.export_to(sanfran, tmp_path / "t")
    with pytest.raises(NotApplied, match="no creation packet"):
        import_at(Site("x", tmp_path / "x"), paths)
    with pytest.raises(MultisiteError, match="there is no creation packet"):
        import_at(Site("x", tmp_path / "x"), [])


def test_who_has_mail_or_a_family_becomes_no_replica(boston: Site, tmp_path: Path) -> None:
    paths = made_for(boston, "sanfran", tmp_path / "t")
    with pytest.raises(MultisiteError, match="a family already"):
        import_at(boston, paths)
    with pytest.raises(MultisiteError, match="a family already"):
        create_family(boston.config, "mail", "boston", "")
    sanfran = Site("sanfran", tmp_path / "sanfran")
    create(sanfran, "user.eve")
    with pytest.raises(MultisiteError, match="has mail already"):
        import_at(sanfran, paths)
    assert list(sanfran.guids("bob")) == [] and all(path.exists() for path in paths)


def test_a_name_that_is_taken(boston: Site, tmp_path: Path) -> None:
    with pytest.raises(MultisiteError, match="there is a replica 'boston'"):
        made_for(boston, "boston", tmp_path / "t")


def test_an_import_that_was_cut_short_may_be_made_again(
    boston: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.multisite.dying import Killed, dying

    paths = made_for(boston, "sanfran", tmp_path / "t", ExportOptions(max_size=6000))
    for at in (3, 9, 17):
        sanfran = Site("sanfran", tmp_path / f"sanfran{at}")
        with pytest.raises(Killed), dying(at):
            import_at(sanfran, paths)
        import_at(sanfran, paths)
        assert same_everywhere([boston, sanfran])
