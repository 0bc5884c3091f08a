// What lies under the cursor, as a text.

import { named } from "./paneltexts.js";

export async function readout(viewer, position, direction) {
  if (!position) return "HU under the cursor";
  const values = await viewer.valuesAt(position, direction);
  const lines = values.map(
    ({ role, hu }) => `${named(role)}: ${hu === null ? "not measured" : `${signed(hu, role)} HU`}`,
  );
  return [`${position.map((v) => v.toFixed(1)).join(", ")} mm (LPS)`, ...lines].join("\n");
}

const signed = (hu, role) => (role === "difference" && hu > 0 ? "+" : "") + Number(hu.toFixed(2));
