// Archives: the table of those of a plan; the page of one, with the map of its units.

import { get, planPath } from "./api.js";
import { cell, make, name, setText, table } from "./dom.js";
import { ago, count, moment, several } from "./format.js";
import {
  Mark,
  archiveHref,
  empty,
  facts,
  lastPart,
  momentAgo,
  path as pathOf,
  planLink,
  runHref,
  sizes,
  time,
} from "./parts.js";
import { UnitMap } from "./unit_map.js";

const MOST_NAMED = 20;
const FIRST = 10;
const AT_ONCE = 100;

/** The page of an archive. */
export function archivePage(app, plan, path) {
  let isAsked = false;
  let isClosed = false;
  let map = null;

  const heading = make("h1", { tabindex: "-1", class: "archive-name" }, name(lastPart(path)));
  const about = make("div");
  const units = make("div", {}, make("p", { class: "second" }, "Reading the archive."));
  const unitsHeading = make("h2", {}, "Units");
  const element = make(
    "div",
    {},
    make("p", { class: "up" }, planLink(plan)),
    heading,
    about,
    make("section", {}, unitsHeading, units),
  );

  function update() {
    if (isAsked) return;
    isAsked = true;
    loadAbout();
    loadUnits();
  }

  async function loadAbout() {
    const known = [["File", pathOf(path)]];
    try {
      const { archives } = await get(planPath(plan, "archives"));
      const found = archives.find((each) => each.path === path);
      const now_s = app.now_s();
      if (found !== undefined) {
        const run = make("a", { href: runHref(found.run_id) }, `run ${found.run_id}`);
        const isProven = found.is_verified && found.verified_s !== null;
        known.push(
          ["Made", [momentAgo(found.made_s, now_s), " by ", run]],
          ["Size", sizes(found)],
          ["Verified", isProven ? momentAgo(found.verified_s, now_s) : "not yet"],
          ["There", found.exists ? null : "no, the file is gone"],
        );
      } else {
        known.push(["There", "no, it was removed, or is of another plan"]);
      }
    } catch (error) {
      known.push(["More", `can't be shown: ${error.message}`]);
    }
    if (!isClosed) about.replaceChildren(facts(known));
  }

  async function loadUnits() {
    let found;
    try {
      found = (await get(`/api/archive-map?${new URLSearchParams({ path })}`)).units;
    } catch (error) {
      const text = `The units can't be shown: ${error.message}.`;
      if (!isClosed) units.replaceChildren(make("p", { class: "problem", role: "alert" }, text));
      return;
    }
    if (isClosed) return;
    if (found.length === 0) {
      units.replaceChildren(empty("The archive has no units: there was nothing to store."));
      return;
    }
    setText(unitsHeading, several(found.length, "unit"));
    map = new UnitMap(found);
    units.replaceChildren(map.element, ...damaged(found));
    map.draw();
  }

  return {
    element,
    heading,
    title: () => `${lastPart(path)} of ${plan}`,
    update,
    close() {
      isClosed = true;
      map?.close();
    },
  };
}

/** Say which units are damaged: that must not be seen in a picture alone. */
function damaged(units) {
  const numbers = units.filter((unit) => unit.state === "damaged").map((unit) => unit.number);
  if (numbers.length === 0) return [];
  const some = numbers.slice(0, MOST_NAMED).map(count).join(", ");
  const rest = numbers.length - MOST_NAMED;
  const more = rest > 0 ? ` and ${count(rest)} more` : "";
  const text = `Damaged: ${several(numbers.length, "unit")}: ${some}${more}.`;
  return [make("p", { class: "problem" }, text)];
}

/** Make a table of the archives of a plan; older ones on demand. */
export function archiveTable(plan, found, now_s) {
  const made = table(`Archives of ${plan}`, "archives", {
    made: "Made",
    old: "Age",
    file: "Archive",
    size: "Size",
    verified: "Verified",
  });
  const rest = [...found];
  let wanted = FIRST;
  const more = make("button", { type: "button" });
  const place = make("p", { class: "buttons" }, more);
  function addRows() {
    const rows = rest.splice(0, wanted).map((each) => archiveRow(plan, each, now_s));
    made.body.append(...rows);
    wanted = AT_ONCE;
    place.hidden = rest.length === 0;
    setText(more, `Show ${count(Math.min(rest.length, AT_ONCE))} older archives`);
    return rows;
  }
  more.addEventListener("click", () => addRows()[0].querySelector("a").focus());
  addRows();
  return [made.element, place];
}

function archiveRow(plan, archive, now_s) {
  const isProven = archive.is_verified && archive.verified_s !== null;
  let verified = { tone: "idle", word: "not verified" };
  if (!archive.exists) verified = { tone: "bad", word: "the file is gone" };
  else if (isProven)
    verified = { tone: "good", word: `verified ${ago(now_s - archive.verified_s)}` };
  return make(
    "tr",
    { role: "row" },
    cell("made", time(archive.made_s, moment(archive.made_s))),
    cell("old", ago(now_s - archive.made_s)),
    cell(
      "file",
      make("a", { href: archiveHref(plan, archive.path) }, name(lastPart(archive.path))),
    ),
    cell("size", sizes(archive)),
    cell("verified", new Mark().update(verified).element),
  );
}
