// A picture of the units of an archive, as `onggi info --map` has it: one cell for each, or for a
// few of them if there are many. One can walk over it with the arrow keys.

import { make, setText } from "./dom.js";
import { bytes, count, percent, several } from "./format.js";

const MOST_CELLS = 20_000;
const MOST_HIGH_PX = 4_000;
const LARGE_PX = 14;
const SMALL_PX = 6;

// Later ones win where a cell stands for several units.
const STATES = ["hole", "zero", "data", "other", "damaged"];
const WORDS = {
  hole: "a hole: nothing is stored",
  zero: "zeros: nothing is stored",
  data: "data",
  other: "something else",
  damaged: "damaged",
};
const SHADES = 4;

function stateOfUnit(unit) {
  return STATES.includes(unit.state) ? unit.state : "other";
}

/** How many units are in each state that there is. */
function countsOf(units) {
  const counts = new Map();
  for (const unit of units) {
    const state = stateOfUnit(unit);
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  return counts;
}

/** Join units to cells, so that there are not too many. */
function cellsOf(units, most = MOST_CELLS) {
  const perCell = Math.max(1, Math.ceil(units.length / most));
  const cells = [];
  for (let first = 0; first < units.length; first += perCell) {
    const some = units.slice(first, first + perCell);
    const cell = {
      first: some[0].number,
      last: some.at(-1).number,
      content_bytes: 0,
      stored_bytes: 0,
      worst: 0,
    };
    for (const unit of some) {
      cell.content_bytes += unit.content_bytes;
      cell.stored_bytes += unit.stored_bytes;
      cell.worst = Math.max(cell.worst, STATES.indexOf(stateOfUnit(unit)));
    }
    cell.state = STATES[cell.worst];
    cells.push(cell);
  }
  return cells;
}

function shadeOf(cell) {
  const share = cell.stored_bytes / Math.max(cell.content_bytes, 1);
  return Math.min(Math.floor(share * SHADES), SHADES - 1);
}

export class UnitMap {
  constructor(units) {
    this.units = units;
    this.cells = cellsOf(units);
    this.at = null;
    this.columns = 1;
    this.canvas = make("canvas", {
      tabindex: "0",
      role: "img",
      "aria-label": this.inWords(),
      "aria-describedby": "unit-told",
    });
    this.told = make("p", { class: "told", id: "unit-told", "aria-live": "polite" });
    this.frame = make("div", { class: "map" }, this.canvas);
    this.element = make("div", { class: "units" }, this.legend(), this.frame, this.told);
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.point(event));
    this.canvas.addEventListener("keydown", (event) => this.walk(event));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.frame);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.onScheme = () => this.draw();
    this.scheme.addEventListener("change", this.onScheme);
    this.tell(null);
  }

  close() {
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.onScheme);
  }

  inWords() {
    const parts = [...countsOf(this.units)].map(([state, number]) => `${count(number)} ${state}`);
    const told = `Map of ${several(this.units.length, "unit")}: ${parts.join(", ")}.`;
    return `${told} Arrow keys walk over it.`;
  }

  legend() {
    const list = make("ul", { class: "legend" });
    const counts = countsOf(this.units);
    const add = (kind, text) =>
      list.append(make("li", {}, make("span", { class: "swatch", "data-kind": kind }), text));
    if (counts.has("data")) {
      add("data-0", "data, up to 25 % of its size stored");
      add("data-1", "50 %");
      add("data-2", "75 %");
      add("data-3", "more");
    }
    for (const state of ["zero", "hole", "other", "damaged"]) {
      if (counts.has(state)) add(state, `${WORDS[state]} (${count(counts.get(state))})`);
    }
    const perCell = Math.ceil(this.units.length / this.cells.length);
    if (perCell > 1) list.append(make("li", {}, `a cell is ${several(perCell, "unit")}`));
    return list;
  }

  draw() {
    const wide = this.frame.clientWidth;
    if (wide === 0) return;
    const fits = (size) =>
      Math.ceil(this.cells.length / Math.floor(wide / size)) * size <= MOST_HIGH_PX;
    this.size = this.cells.length <= 2_000 || !fits(SMALL_PX) ? LARGE_PX : 8;
    if (!fits(this.size)) this.size = SMALL_PX;
    this.columns = Math.max(1, Math.floor(wide / this.size));
    const rows = Math.ceil(this.cells.length / this.columns);
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    const high = rows * this.size;
    this.canvas.width = this.columns * this.size * scale;
    this.canvas.height = high * scale;
    this.canvas.style.setProperty("width", `${this.columns * this.size}px`);
    this.canvas.style.setProperty("height", `${high}px`);
    const brush = this.brush();
    brush.scale(scale, scale);
    const colours = this.colours();
    this.cells.forEach((_, number) => this.drawCell(brush, colours, number));
    if (this.at !== null) this.drawFrame(brush, colours);
  }

  brush() {
    return this.canvas.getContext("2d");
  }

  colours() {
    const style = getComputedStyle(this.element);
    const names = [
      "data-0",
      "data-1",
      "data-2",
      "data-3",
      "zero",
      "hole",
      "other",
      "damaged",
      "on-damaged",
    ];
    const found = Object.fromEntries(
      names.map((each) => [each, style.getPropertyValue(`--unit-${each}`).trim()]),
    );
    found.ink = style.getPropertyValue("--ink").trim();
    return found;
  }

  place(number) {
    return [(number % this.columns) * this.size, Math.floor(number / this.columns) * this.size];
  }

  /** Each state has a sign as well as a colour: a frame, a point, a cross. */
  drawCell(brush, colours, number) {
    const cell = this.cells[number];
    const [x, y] = this.place(number);
    const inner = this.size - 1;
    const kind = cell.state === "data" ? `data-${shadeOf(cell)}` : cell.state;
    brush.fillStyle = brush.strokeStyle = colours[kind];
    brush.lineWidth = 1;
    if (cell.state === "zero") {
      brush.strokeRect(x + 0.5, y + 0.5, inner - 1, inner - 1);
    } else if (cell.state === "hole") {
      const dot = Math.max(2, Math.floor(inner / 4));
      brush.fillRect(x + (inner - dot) / 2, y + (inner - dot) / 2, dot, dot);
    } else {
      brush.fillRect(x, y, inner, inner);
    }
    if (cell.state !== "damaged") return;
    brush.strokeStyle = colours["on-damaged"];
    brush.lineWidth = this.size > 8 ? 2 : 1;
    const [low, high] = [inner * 0.2, inner * 0.8];
    brush.beginPath();
    brush.moveTo(x + low, y + low);
    brush.lineTo(x + high, y + high);
    brush.moveTo(x + high, y + low);
    brush.lineTo(x + low, y + high);
    brush.stroke();
  }

  drawFrame(brush, colours) {
    const [x, y] = this.place(this.at);
    brush.strokeStyle = colours.ink;
    brush.lineWidth = 2;
    brush.strokeRect(x, y, this.size - 1, this.size - 1);
  }

  point(event) {
    const column = Math.floor(event.offsetX / this.size);
    const number = Math.floor(event.offsetY / this.size) * this.columns + column;
    if (column < this.columns && number < this.cells.length) this.tell(number);
  }

  walk(event) {
    const last = this.cells.length - 1;
    const at = this.at ?? -1;
    const places = {
      ArrowRight: at + 1,
      ArrowLeft: at - 1,
      ArrowDown: at < 0 ? 0 : at + this.columns,
      ArrowUp: at - this.columns,
      Home: 0,
      End: last,
    };
    if (!(event.key in places) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.tell(Math.min(Math.max(places[event.key], 0), last));
  }

  /** Tell about a cell. */
  tell(number) {
    if (number === null) {
      setText(this.told, "Point at a unit, or walk with the arrow keys, to see what it is.");
      return;
    }
    if (number === this.at) return;
    const before = this.at;
    this.at = number;
    const cell = this.cells[number];
    const which =
      cell.first === cell.last
        ? `unit ${count(cell.first)}`
        : `units ${count(cell.first)} to ${count(cell.last)}`;
    const sizes = `${bytes(cell.content_bytes)} of content, ${bytes(cell.stored_bytes)} stored`;
    const share =
      cell.content_bytes > 0 ? `, ${percent(cell.stored_bytes / cell.content_bytes)}` : "";
    setText(this.told, `${which}: ${WORDS[cell.state]}; ${sizes}${share}`);
    this.redraw(before);
  }

  /** Draw the surroundings of the cell that had the frame anew, and the one that has it. */
  redraw(before) {
    const brush = this.brush();
    const colours = this.colours();
    if (before !== null) {
      const [x, y] = this.place(before);
      brush.clearRect(x - 2, y - 2, this.size + 3, this.size + 3);
      for (const row of [-this.columns, 0, this.columns]) {
        for (const side of [-1, 0, 1]) {
          const number = before + row + side;
          const isNear = Math.abs((number % this.columns) - (before % this.columns)) <= 1;
          if (isNear && number >= 0 && number < this.cells.length)
            this.drawAlone(brush, colours, number);
        }
      }
    }
    this.drawFrame(brush, colours);
  }

  drawAlone(brush, colours, number) {
    const [x, y] = this.place(number);
    brush.clearRect(x, y, this.size, this.size);
    this.drawCell(brush, colours, number);
  }
}
