// Bundles the page, the viewer library in it, into ../built, which the server reads and git
// ignores. A classic script, since a page opened from a disk may not load modules.
import { build } from "esbuild";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "built");
mkdirSync(out, { recursive: true });

const result = await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.js" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  legalComments: "none",
  // vtk.js, below the viewer library, names an XML writer that wants Node's own modules and that
  // nothing here calls.
  alias: { xmlbuilder2: "./src/nothing.js" },
  metafile: true,
});
copyFileSync(join(here, "src", "index.html"), join(out, "index.html"));
copyFileSync(join(here, "src", "app.css"), join(out, "app.css"));
writeFileSync(join(out, "licences.txt"), licences(Object.keys(result.metafile.inputs)));

// What the bundle holds of others, with their terms, as these ask for.
function licences(inputs) {
  const folders = new Set();
  for (const input of inputs) {
    const found = input.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//);
    if (found) folders.add(found[1]);
  }
  return [...folders]
    .sort()
    .map((folder) => {
      const about = JSON.parse(readFileSync(join(here, folder, "package.json"), "utf8"));
      const file = readdirSync(join(here, folder)).find((name) => /^licen[cs]e/i.test(name));
      const text =
        file && existsSync(join(here, folder, file))
          ? readFileSync(join(here, folder, file), "utf8")
          : "";
      return `${about.name} ${about.version}: ${about.license}\n\n${text}\n`;
    })
    .join("\n----\n\n");
}
