import pytest

from rcnn_jax.settings.views import ViewSettings, read_views


@pytest.mark.parametrize(
    ("text", "views", "count", "shown"),
    [
        ("flip", ViewSettings(flip=True), 2, "flip"),
        ("flip,0.8,1.25", ViewSettings(flip=True, scales=(1.0, 0.8, 1.25)), 6, "flip,0.8,1.25"),
        (" 0.5 , 1 ", ViewSettings(scales=(1.0, 0.5)), 2, "0.5"),
        ("1.5 1.5", ViewSettings(scales=(1.0, 1.5)), 2, "1.5"),
    ],
)
def test_a_text_names_views_and_the_image_itself_is_always_one(text, views, count, shown):
    assert read_views(text) == views
    assert (views.count, str(views)) == (count, shown)
    assert read_views(str(views)) == views


@pytest.mark.parametrize("text", ["", "none", " , "])
def test_nothing_is_no_test_time_augmentation(text):
    assert read_views(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mirror", "'mirror' is no view: expected `flip`, scales from 0.25 to 4, or both"),
        ("flip,0.1", "0.1 is out of range"),
        ("nan", "nan is out of range"),
        ("0.5 0.6 0.7 0.8 0.9 1.1 1.2 1.3", "has 9 scales with 1: at most 8"),
    ],
)
def test_what_names_no_view_is_refused_with_what_is_expected(text, message):
    with pytest.raises(ValueError, match=message):
        read_views(text)
