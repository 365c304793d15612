// Who acts on what: two faults that would undo each other take turns.

export class Claims {
  private readonly held = new Set<string>();
  private waiters: (() => void)[] = [];

  isHeld(name: string): boolean {
    return this.held.has(name);
  }

  /** Waits until none of these is held, then holds them all; resolves with the function that lets go of them. */
  async take(names: string[]): Promise<() => void> {
    while (names.some((name) => this.held.has(name))) await new Promise<void>((resolve) => this.waiters.push(resolve));
    for (const name of names) this.held.add(name);
    return () => {
      for (const name of names) this.held.delete(name);
      for (const wake of this.waiters.splice(0)) wake();
    };
  }
}
