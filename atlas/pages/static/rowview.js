// @ts-check
"use strict";
// How rows of a Store are shown on their map.

atlas.rowView = async (page) => {
  const { element } = atlas;
  const { rows, points } = page;
  const kept = (i) => (points.kept[i] > 100 ? null : points.kept[i]), // percent; 255 where it is not known
    percent = (i) => (kept(i) === null ? "–" : `${kept(i)} %`);
  // Among pictures, rendered words and texts are drawn as words, texts in italics.
  const written = rows.kinds.map((kind) => rows.kinds.includes("image") && kind !== "image");
  // A link to the picture's file, once the table of files is there; empty for a row without one.
  function file(row) {
    const link = element("small.file", {});
    atlas.table("files").then(({ file }) => {
      if (file.at(row)) link.append(element("a", { href: file.at(row) }, "Open its file"));
      else link.remove();
    });
    return link;
  }
  return {
    isWritten: (i) => written[rows.kind[points.row[i]]],
    isSlanted: (i) => rows.kinds[rows.kind[points.row[i]]] === "text",
    side: 30,
    room: () => 2500,
    frame: () => 1.5,
    hint: (i) => {
      const row = points.row[i];
      const text = element(
        "div",
        {},
        element("span.caption", {}, rows.name(row)),
        element("small", {}, rows.about(row)),
      );
      return { many: false, nodes: rows.sheet[row] >= 0 ? [rows.thumb(row), text] : [text] };
    },
    nearest: rows.kinds.length > 1 ? "Nearest to the model: its own kind, then the others" : "Nearest to the model",
    cited: (i, row) => `${rows.about(points.row[i])}, row ${row}`,
    parts: (i) => (page.settings.tables.files ? [file(page.number(i))] : []),
    named: (names, k) => page.legend.named(names, k),
    table: {
      heads: ["Caption", "Kind", ...(points.kept ? ["Kept"] : [])],
      cells: (i) => [rows.about(points.row[i]), ...(points.kept ? [percent(i)] : [])],
      record: (i) => ({
        row: page.number(i),
        kind: rows.kinds[rows.kind[points.row[i]]],
        style: rows.style(points.row[i]),
        caption: rows.name(points.row[i]),
        ...(points.kept ? { kept: kept(i) } : {}),
      }),
    },
    listed: () => {},
    regions: () => atlas.table("labels"),
  };
};
