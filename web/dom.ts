// Elements from a tag, attributes and children: the little of a framework that the page needs.

type Child = Node | string;
type Attributes = Readonly<Record<string, string | number>>;

function fill<E extends Element>(element: E, attributes: Attributes, children: readonly Child[]): E {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

export const html = <K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: readonly Child[]) =>
  fill(document.createElement(tag), attributes, children);

export const svg = <K extends keyof SVGElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: readonly Child[]) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** An element of index.html. */
export function byId<T extends HTMLElement>(id: string, type: { new (): T }): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`index.html has no ${type.name} #${id}`);
  return found;
}

/** Rows of texts under a header; columns from `numbers` on are set to the right. */
export function table(header: readonly string[], rows: readonly (readonly string[])[], numbers = header.length): HTMLElement {
  const cell = (tag: "th" | "td", text: string, column: number) => html(tag, column >= numbers ? { class: "number" } : {}, text);
  const head = html("tr", {}, ...header.map((text, i) => cell("th", text, i)));
  const body = rows.map((row) => html("tr", {}, ...row.map((text, i) => cell("td", text, i))));
  return html("div", { class: "scroll" }, html("table", {}, html("thead", {}, head), html("tbody", {}, ...body)));
}
