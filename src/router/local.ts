// Who is online on this instance: one session for each (user, device).

export interface Located {
  readonly userId: number;
  readonly device: string;
}

const NONE: readonly never[] = [];

export class LocalRouter<Session extends Located> {
  /** Short lists take less memory than maps. Replaced, not changed: a loop over one may end its sessions. */
  private readonly byUser = new Map<number, readonly Session[]>();

  get(userId: number, device: string): Session | undefined {
    return this.of(userId).find((session) => session.device === device);
  }

  /** The user's sessions, on all devices. */
  of(userId: number): readonly Session[] {
    return this.byUser.get(userId) ?? NONE;
  }

  /** Registers a session, in place of the one its device may have. */
  add(session: Session): void {
    const others = this.of(session.userId).filter(({ device }) => device !== session.device);
    this.byUser.set(session.userId, [...others, session]);
  }

  /** Removes a session, unless another one has taken its place; true where it was the user's last. */
  remove(session: Session): boolean {
    const all = this.of(session.userId);
    const left = all.filter((each) => each !== session);
    if (left.length === all.length) return false;
    if (left.length > 0) this.byUser.set(session.userId, left);
    else this.byUser.delete(session.userId);
    return left.length === 0;
  }
}
