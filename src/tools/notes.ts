// What an import could not take over as it was: told by kind, with its first cases.
import { grouped, say } from "./progress.ts";

const CASES_SHOWN = 100;

export class Notes {
  private readonly kinds = new Map<string, { count: number; cases: string[] }>();

  /** `what`: for one and for many alike; `one`: this case. Neither holds a password or a message's text. */
  add(what: string, one: string): void {
    const kind = this.kinds.get(what) ?? { count: 0, cases: [] };
    this.kinds.set(what, kind);
    kind.count++;
    if (kind.cases.length < CASES_SHOWN) kind.cases.push(one);
  }

  tell(): void {
    for (const [what, { count, cases }] of this.kinds) {
      say(`note: ${what}: ${grouped(count)}`);
      for (const each of cases) say(`  ${each}`);
      if (count > cases.length) say(`  … and ${grouped(count - cases.length)} more`);
    }
  }
}
