// Small things that every view needs.

export const $ = (selector, within = document) => within.querySelector(selector);

// Fill the page with a copy of a template of index.html; returns what it fills.
export function showTemplate(template) {
  const main = $("#main");
  main.replaceChildren(document.getElementById(template).content.cloneNode(true));
  return main;
}

// make("td", { class: "n" }, "12")
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false)
      element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Set a text that may be the same: writing it again would lay the page out anew at every slice.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A line below the page, which a screen reader reads out; "" takes it away.
export function showMessage(text) {
  setText($("#said"), text);
}

// What was going on has ended: its message goes, unless another one came meanwhile.
export function clearMessage(text) {
  if ($("#said").textContent === text) showMessage("");
}

export const READING = "reading all slices…";

const KEPT = "ldct-reader";

// The name of the reader, or "" while there is none that the server would take.
export function reader() {
  const input = $("#reader");
  return input.checkValidity() ? input.value.normalize("NFC") : "";
}

// Who is logged in; null on one's own computer, where readers name themselves.
let me = null;

// Whether the server would let this reader do what needs a role: reader, releaser or admin.
export function may(role) {
  return me?.roles.includes(role) ?? true;
}

// Show who is logged in, or else the name that was used last in this browser, and remember a new one.
export function keepReader(known) {
  me = known ?? null;
  const input = $("#reader");
  if (me?.reader) {
    input.value = me.reader;
    input.readOnly = true;
    $("#log-out").hidden = !me.can_log_out;
    return;
  }
  try {
    input.value = localStorage.getItem(KEPT) ?? "";
  } catch {
    // no storage: named anew each time
  }
  input.addEventListener("change", () => {
    try {
      localStorage.setItem(KEPT, input.value);
    } catch {
      // as above
    }
  });
}

// A heading, a bar of colours and what its ends are. colour: of 0 to 1, red, green, blue and, if
// any, opacity, 0 to 255.
export function colourScale(title, label, colour, ends) {
  const canvas = make("canvas", {
    class: "scale",
    width: 256,
    height: 1,
    role: "img",
    "aria-label": label,
  });
  const context = canvas.getContext("2d");
  for (let x = 0; x < 256; x++) {
    const [red, green, blue, opacity = 255] = colour(x / 255);
    context.fillStyle = `rgba(${red}, ${green}, ${blue}, ${opacity / 255})`;
    context.fillRect(x, 0, 1, 1);
  }
  const names = ends.map((text) => make("span", {}, text));
  return [make("h3", {}, title), canvas, make("div", { class: "ends" }, ...names)];
}
