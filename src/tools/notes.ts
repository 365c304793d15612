// What an import could not take over unchanged: reported by kind, with the first cases of each.
import { grouped, say } from "./progress.ts";

const CASES_SHOWN = 100;

export class Notes {
  private readonly kinds = new Map<string, { count: number; cases: string[] }>();

  /** `what` names the kind, `one` this case. Neither may hold a password or a message's text. */
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
