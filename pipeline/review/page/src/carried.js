// Decisions made on a page opened from a disk: kept in the browser, and saved as a file that
// `ldct review decisions` takes in where the series are.

const KEPT = "ldct-decisions-";

export class CarriedDecisions {
  // cases: as they were when the disk was written. format: of the file.
  constructor(cases, format) {
    this.format = format;
    this.written = new Map(cases.map((each) => [each.case, each]));
    // Another disk, or the same written again, has other decisions or other files.
    this.key = KEPT + cases.map((each) => `${each.files_sha256}${each.decision?.time}`).join();
    this.made = new Map(kept(this.key));
  }

  get count() {
    return this.made.size;
  }

  // The case with what was decided here.
  row(each) {
    const carried = this.made.get(each.case);
    if (!carried) return each;
    const { verdict: act, reader, reason, made: time } = carried;
    return { ...each, decision: { act, reader, reason, time } };
  }

  decide(cid, { reader, verdict, reason }) {
    if (verdict === "reject" && !reason.trim()) throw new Error("a rejection needs a reason");
    const written = this.written.get(cid);
    this.made.set(cid, {
      case: cid,
      files_sha256: written.files_sha256,
      reader,
      verdict,
      reason,
      seen: written.decision?.time ?? "",
      made: new Date().toISOString(),
    });
    keep(this.key, [...this.made]);
    return this.row(written);
  }

  // What the file holds.
  text() {
    return JSON.stringify({ format: this.format, decisions: [...this.made.values()] }, null, 1);
  }
}

function kept(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? [];
  } catch {
    return []; // no storage: until the page is closed
  }
}

function keep(key, made) {
  try {
    localStorage.setItem(key, JSON.stringify(made));
  } catch {
    // as above
  }
}
