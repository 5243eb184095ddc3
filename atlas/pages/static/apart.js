// @ts-check
"use strict";
// What sets points apart: words, groups, kinds and neurons that are more common among them than among others.

atlas.apart = (page) => {
  const { element } = atlas;
  const { rows, points } = page;
  const APART = 5, // of each that are listed
    INSIDE = 2000, // points of the selection, and of all, that are compared
    WHOLE = 20_000,
    WORD = /[\p{L}\p{N}][\p{L}\p{N}'’-]{2,}/gu,
    SURE = 3; // standard deviations above what chance would give
  const even = (of, most) => {
    const step = Math.ceil(of.length / most);
    return of.filter((_, at) => at % step === 0);
  };
  function traits(i) {
    const row = points.row[i],
      words = rows.name(row).toLowerCase().match(WORD) || [],
      found = words.map((word) => ["word", word]);
    if (rows.groups) found.push(["group", rows.style(row)], ["kind", rows.kinds[rows.kind[row]]]);
    for (const [neuron] of page.neurons(i)) found.push(["neuron", String(neuron)]);
    return found.filter(([, value]) => value).map(([what, value]) => `${what}\n${value}`);
  }
  async function counted(of) {
    const counts = new Map();
    for (const list of await page.each(of, traits))
      for (const key of new Set(list)) counts.set(key, (counts.get(key) || 0) + 1);
    return counts;
  }
  async function traitsOf(these, others) {
    // counts in the points beside those of an even sample of others; the rarest is taken to be in the sample once
    const inside = even(these, INSIDE),
      whole = even(others, WHOLE);
    if (inside.length < 3 || whole.length < 3) return [];
    const [own, all] = [await counted(inside), await counted(whole)];
    const found = [...own]
      .map(([key, count]) => {
        const share = Math.min(0.999, Math.max(all.get(key) || 0, 1) / whole.length),
          expected = share * inside.length;
        return { key, count, expected, z: (count - expected) / Math.sqrt(expected * (1 - share)) };
      })
      .filter(({ count, z }) => count > 1 && z > SURE)
      .sort((a, b) => b.z - a.z);
    return Object.keys(HEADS).map((what) => ({
      what,
      size: inside.length,
      of: found.filter(({ key }) => key.startsWith(`${what}\n`)).slice(0, APART),
    }));
  }
  function apartLine(what, size, { key, count, expected }) {
    const value = key.split("\n")[1],
      label = what === "neuron" ? `${value} · ${page.names?.label?.at(Number(value)) || ""}` : value;
    const name = element("span", {}, element("bdi", {}, label)),
      usual = `${count.toLocaleString("en")} of ${size.toLocaleString("en")}, by chance ${Math.round(expected)}`;
    const line =
      what === "neuron"
        ? element(
            "button.line",
            { type: "button", title: "Show what activates it", onclick: () => page.legend.light(Number(value)) },
            name,
            element("small", {}, usual),
          )
        : element("div.line", {}, name, element("small", {}, usual));
    return element("li", {}, line);
  }
  const HEADS = { word: "Words in captions", neuron: "Neurons", group: "Groups", kind: "Kinds" };
  // What sets points apart from all others, or, given others, each of the two from the other.
  async function sides(these, others) {
    if (others)
      return [await side("More common here", these, others, 8), await side("More common there", others, these, 8)];
    const all = these.length > 0.8 * page.n ? [] : Array.from(page.order).filter(page.legend.visible);
    return [await side("More common here than elsewhere", these, all)];
  }
  async function side(title, these, others, shown = 0) {
    const found = (await traitsOf(these, others)).filter(({ of }) => of.length);
    return element(
      "div",
      {},
      element("h3", {}, found.length ? title : shown ? `${title}: nothing` : "Nothing sets it apart from the rest"),
      shown ? pictured(these, shown) : "",
      ...found.flatMap(({ what, size, of }) => [
        element("small", {}, HEADS[what]),
        element("ul.list", {}, ...of.map((one) => apartLine(what, size, one))),
      ]),
    );
  }
  function pictured(these, most) {
    // some of their pictures, spread over them
    const step = Math.max(1, Math.floor(these.length / most));
    const some = these.filter((i, at) => at % step === 0 && rows.spot(points.row[i]).sheet >= 0).slice(0, most);
    return element(
      "div.strip.many",
      { role: "group", "aria-label": "Some of its pictures" },
      ...some.map((i) => {
        const act = { type: "button", title: rows.name(points.row[i]), "aria-label": rows.name(points.row[i]) };
        return rows.thumb(points.row[i], "button", { ...act, onclick: () => page.pick(i, true) });
      }),
    );
  }
  return { sides, pictured };
};
