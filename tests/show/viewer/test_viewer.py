import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from pellucid.errors import BadImage, BadStudy
from pellucid.show.viewer import Reviews, make_app

pytest.importorskip("fastapi")
TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture
def client(study, report, tmp_path, monkeypatch):
    monkeypatch.setattr(Reviews, "folder", property(lambda self: tmp_path / "reviews"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the test client's own
        from fastapi.testclient import TestClient

        with TestClient(make_app(study, TOKEN), base_url="http://127.0.0.1:8000") as opened:
            yield opened


@pytest.fixture
def inside(client):
    assert client.get("/", params={"token": TOKEN}).status_code == 200
    return client


def png(shape, marked=True):
    buffer = io.BytesIO()
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[2:5, 3:9] = (255, 212, 0) if marked else 0
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("path", ["/", "/review", "/api/next/ann", "/api/map/x", "/nothing"])
def test_without_the_token_there_is_nothing(client, path):
    for asked in (path, f"{path}?token=wrong"):
        assert client.get(asked).status_code == 403
    client.cookies.set("pellucid", "wrong")
    assert client.get(path).status_code == 403


def test_the_token_leaves_the_address_and_stays_as_a_strict_cookie(client):
    answer = client.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()


def test_another_name_for_this_machine_is_refused(inside):
    """A page elsewhere may point a name of its own at the loopback address."""
    assert inside.get("/", headers={"host": "evil.example"}).status_code == 403
    assert inside.get("/", params={"token": TOKEN}, headers={"host": "evil.example"}).status_code == 403


def test_a_page_elsewhere_cannot_save(inside):
    code = inside.get("/api/next/ann").json()["code"]
    asked = {"rater": "ann", "rating": 3}
    assert (
        inside.post(f"/api/rating/{code}", params=asked, headers={"origin": "http://evil.example"}).status_code == 403
    )
    assert (
        inside.post(f"/api/rating/{code}", params=asked, headers={"origin": "http://127.0.0.1:8000"}).status_code == 200
    )


def test_the_report_is_served_as_it_is(inside, report):
    assert inside.get("/").content == report.read_bytes()
    assert "Blind review" in inside.get("/review").text


@pytest.mark.parametrize(
    "path",
    ["/../study.toml", "/..%2fstudy.toml", "/study.toml", "/api/image/..%2f..%2fstudy.toml", "/api/map/../../study.toml",
     "/%2e%2e/%2e%2e/etc/passwd", "/review/../study.toml", "/docs", "/openapi.json"],
)  # fmt: skip
def test_no_path_leads_to_a_file(inside, path):
    answer = inside.get(path)
    assert answer.status_code == 404
    assert b"[images]" not in answer.content


def test_a_rater_sees_every_map_once_and_no_name(inside, study):
    seen, count = [], len(Reviews(study).items)
    while (told := inside.get("/api/next/ann").json())["code"] is not None:
        assert told["left"] == count - len(seen)
        if not seen:
            for kind in ("image", "map"):
                answer = inside.get(f"/api/{kind}/{told['code']}")
                assert answer.headers["content-type"] == "image/png"
                with Image.open(io.BytesIO(answer.content)) as picture:
                    assert picture.size == (32, 32)
                    assert len(picture.info) == 0
        assert not any(name in json.dumps(told) for name in (*study.methods, *study.chosen))
        seen.append(told["code"])
        asked = {"rater": "ann", "rating": 1 + len(seen) % 5, "note": "näh <b>", "seconds": 1.5}
        assert inside.post(f"/api/rating/{told['code']}", params=asked).json() == {"saved": True}
    assert len(set(seen)) == len(seen) == len(study.chosen) * len(study.methods)
    other = inside.get("/api/next/bob").json()["code"]
    assert other is not None
    table = Reviews(study).ratings
    assert table.num_rows == len(seen)
    assert set(table["method"].to_pylist()) == set(study.methods)
    assert table["note"][0].as_py() == "näh <b>"


def test_each_rater_has_an_order_of_their_own_that_lasts(inside, study):
    first = [inside.get(f"/api/next/{name}").json()["code"] for name in ("ann", "bob", "cem", "dan", "eve")]
    assert len(set(first)) > 1
    assert [inside.get(f"/api/next/{name}").json()["code"] for name in ("ann", "bob", "cem", "dan", "eve")] == first
    assert list(Reviews(study).items) == list(Reviews(study).items)


def test_a_mask_is_saved_under_the_rater(inside, study):
    code = inside.get("/api/next/ann").json()["code"]
    assert inside.put(f"/api/mask/{code}", params={"rater": "ann"}, content=png((32, 32))).json() == {"saved": True}
    reviews = Reviews(study)
    (path,) = (reviews.folder / "masks" / "ann").glob("*.png")
    with Image.open(path) as mask:
        assert np.count_nonzero(np.asarray(mask)) == 18
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["image"] == reviews.items[code].image
    assert told["rater"] == "ann"


@pytest.mark.parametrize(
    ("rater", "content", "status"),
    [("ann", b"no picture", 422), ("ann", png((16, 32)), 422), ("../../etc", png((32, 32)), 422), ("a/b", png((32, 32)), 422),
     ("", png((32, 32)), 422), ("ann", b"x" * (5 << 20), 413)],
)  # fmt: skip
def test_bad_masks_and_names_write_nothing(inside, study, rater, content, status):
    code = inside.get("/api/next/ann").json()["code"]
    answer = inside.put(f"/api/mask/{code}", params={"rater": rater}, content=content)
    assert answer.status_code == status
    assert not (Reviews(study).folder / "masks").exists()


def test_bad_ratings_are_refused_in_a_sentence(inside):
    code = inside.get("/api/next/ann").json()["code"]
    assert inside.post("/api/rating/nothing", params={"rater": "ann", "rating": 3}).json() == {
        "error": "there is no map of that code"
    }
    told = inside.post(f"/api/rating/{code}", params={"rater": "ann", "rating": 6}).json()
    assert told == {"error": "a rating is a whole number from 1 to 5, not 6"}
    assert "letters" in inside.get("/api/next/a%20b").json()["error"]
    assert inside.put("/api/mask/nothing", params={"rater": "ann"}, content=png((32, 32))).status_code == 404


def test_reviews_refuse_what_is_not_the_studys(study, tmp_path, monkeypatch):
    monkeypatch.setattr(Reviews, "folder", property(lambda self: tmp_path / "reviews"))
    with pytest.raises(BadStudy, match="no such image"):
        Reviews(study).save_mask("../other.png", "ann", png((32, 32)))
    with pytest.raises(BadImage, match="no PNG"):
        Reviews(study).save_mask(study.chosen[0], "ann", b"GIF89a")


def test_a_study_without_a_report_and_a_missing_package_are_one_sentence(study, tmp_path, monkeypatch):
    class Bare:
        path = tmp_path

    with pytest.raises(BadStudy, match="has no report yet"):
        make_app(Bare(), TOKEN)
    monkeypatch.setitem(__import__("sys").modules, "fastapi", None)
    with pytest.raises(BadStudy, match=r"pip install 'pellucid\[viewer\]'"):
        make_app(study, TOKEN)
