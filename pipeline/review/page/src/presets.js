// Window presets on the keys 1 to 9, in HU; what a reader changes stays in their browser.

const USUAL = [
  ["lung", -600, 1500],
  ["mediastinum", 50, 350],
  ["abdomen", 40, 400],
  ["bone", 400, 1800],
  ["brain", 40, 80],
];
const KEPT = "ldct-presets";

export function presets() {
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem(KEPT));
  } catch {
    // a browser without storage, or with another page's: the usual ones
  }
  const right = (row) =>
    Array.isArray(row) && row.length === 3 && typeof row[0] === "string" && row[2] > 0;
  return Array.isArray(kept) && kept.every(right) ? kept : USUAL;
}

// Let the reader change them; calls `changed` if they did.
export function editPresets(changed) {
  const dialog = document.getElementById("preset-dialog");
  const body = dialog.querySelector("tbody");
  const rows = [...presets(), ...Array(9).fill(["", "", ""])].slice(0, 9);
  body.replaceChildren(...rows.map(rowOf));
  dialog.onclose = () => {
    if (dialog.returnValue === "save") keep(JSON.stringify(read(body)));
    if (dialog.returnValue === "reset") keep(JSON.stringify(USUAL));
    changed();
  };
  dialog.returnValue = "";
  dialog.showModal();
}

function keep(text) {
  try {
    localStorage.setItem(KEPT, text);
  } catch {
    // kept nowhere, then
  }
}

function rowOf(row, k) {
  const line = document.createElement("tr");
  const names = ["name", "centre", "width"];
  line.innerHTML = `<td>${k + 1}</td>`;
  row.forEach((value, i) => {
    const cell = document.createElement("td");
    const input = document.createElement("input");
    input.value = value;
    if (i) input.type = "number";
    input.setAttribute("aria-label", `${names[i]} of preset ${k + 1}`);
    cell.append(input);
    line.append(cell);
  });
  return line;
}

function read(body) {
  return [...body.rows]
    .map((line) => [...line.querySelectorAll("input")].map((input) => input.value))
    .filter(([name, , width]) => name && Number(width) > 0)
    .map(([name, centre, width]) => [name, Number(centre), Number(width)]);
}
