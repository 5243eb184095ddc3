"""Two points, and two selections, side by side on the map."""

from itertools import pairwise

from tests.browsing import Visit, lasso, shown_hash


def test_the_way_between_two_points_goes_from_neighbour_to_neighbour(visit: Visit) -> None:
    page = visit.open("map.html#0")
    page.get_by_role("button", name="What lies between this and another point?").click()
    assert page.get_by_text("Now pick the other point").is_visible()
    far = page.evaluate("""() => {
        const { n, near } = atlas.page, steps = new Array(n).fill(-1), queue = [atlas.page.pointOf[0]];
        steps[queue[0]] = 0;
        for (const i of queue) for (const other of near(i)) if (steps[other] < 0) {
            steps[other] = steps[i] + 1;
            queue.push(other);
        }
        return queue.at(-1);
    }""")
    page.evaluate(f"atlas.page.pick({far}, true)")
    way = page.evaluate("atlas.page.between.way()")
    assert (way[0], way[-1]) == (page.evaluate("atlas.page.pointOf[0]"), far)
    near = [set(page.evaluate(f"atlas.page.near({i})")) for i in way]
    assert all(b in near[at] or a in near[at + 1] for at, (a, b) in enumerate(pairwise(way)))
    assert page.locator(".between .t").count() == len(way) > 2
    address = shown_hash(page)
    again = visit.open(f"map.html{address}")
    assert again.evaluate("atlas.page.between.way()") == way
    page.locator(".between .t").nth(1).click()  # along the way, it stays
    assert page.locator(".between .t").count() == len(way)
    page.get_by_role("button", name="Close card").click()
    assert "way=" not in shown_hash(page)


def test_two_selections_are_compared_and_an_address_keeps_both(visit: Visit) -> None:
    page = visit.open("map.html")
    stage = page.locator("#map").bounding_box()
    left, top, right, bottom = stage["x"], stage["y"], stage["x"] + stage["width"], stage["y"] + stage["height"]
    middle = (left + right) / 2
    first = lasso(page, left + 5, top + 5, middle, bottom - 5)
    page.get_by_role("button", name="Compare with another selection").click()
    button = page.get_by_role("button", name="Lasso")
    assert button.get_attribute("aria-pressed") == "true"  # the next may be drawn at once
    button.click()
    second = lasso(page, middle, top + 5, right - 5, bottom - 5)
    assert min(first, second) > 3
    heads = page.locator(".apart h3")
    heads.nth(1).wait_for()
    assert page.get_by_text(f"Beside the {first} selected earlier").is_visible()
    said = page.locator(".apart").inner_text()
    beyond = """(each) => { each.textContent = "10,411 of 12,345, by chance 1,234";
      return each.getBoundingClientRect().right > each.closest(".apart > div").getBoundingClientRect().right + 1; }"""
    lines = page.locator(".apart .line small")
    assert lines.count() > 2
    assert not any(line.evaluate(beyond) for line in lines.all()), "no figure runs into the other column"
    page = visit.open(f"map.html{shown_hash(page)}")
    heads.nth(1).wait_for()
    assert page.locator(".apart").inner_text() == said
    page.get_by_role("button", name="Clear the selection").click()
    assert "beside=" not in shown_hash(page)
