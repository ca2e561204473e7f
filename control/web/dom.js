// Making elements, of text alone: nothing that a server tells is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 *
 * `attributes` are as in HTML, but for: `on`, handlers by event; and those that are null, undefined
 * or false, which it does not get. Links lead within this page or this server.
 */
export function make(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** Make an element of a picture. */
export function makeSvg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, handler] of Object.entries(value)) {
        element.addEventListener(event, handler);
      }
    } else if (name === "href" && !/^(#|\/(?![/\\]))/.test(value)) {
      throw new Error(`a link that leads away: ${value}`);
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Have an element show a text; touch it only if it shows another. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Have an element have an attribute, or not, if the value is null. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Put elements into a parent in this order, and take away all others. The focus stays. */
export function arrange(parent, elements) {
  const focused = document.activeElement;
  const wanted = new Set(elements);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  if (parent.childElementCount === 0) {
    parent.append(...elements);
    return;
  }
  let next = parent.firstElementChild;
  for (const element of elements) {
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus();
}

/** Make a name that somebody else chose: it can't change the direction of what is around it. */
export function name(text) {
  return make("bdi", {}, text);
}

/** Make a table that CSS lays out; `columns` are its headings, by class. */
export function table(label, kind, columns) {
  const head = make("tr", { role: "row" });
  for (const [column, heading] of Object.entries(columns)) {
    head.append(make("th", { role: "columnheader", scope: "col", class: column }, heading));
  }
  const body = make("tbody", { role: "rowgroup" });
  const element = make(
    "table",
    { role: "table", class: `rows ${kind}`, "aria-label": label },
    make("thead", { role: "rowgroup" }, head),
    body,
  );
  return { element, body };
}

/** Make a cell of such a table. */
export function cell(column, ...children) {
  return make("td", { role: "cell", class: column }, ...children);
}
