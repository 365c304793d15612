// Who is online on this instance: one session for each (user, device).

export interface Located {
  readonly userId: number;
  readonly device: string;
}

export class LocalRouter<Session extends Located> {
  private readonly byUser = new Map<number, Map<string, Session>>();
  private sessions = 0;

  get size(): number {
    return this.sessions;
  }

  get(userId: number, device: string): Session | undefined {
    return this.byUser.get(userId)?.get(device);
  }

  /** The user's sessions, on all devices. */
  of(userId: number): Iterable<Session> {
    return this.byUser.get(userId)?.values() ?? [];
  }

  /** Registers a session in place of the one that its device may have. */
  add(session: Session): void {
    let devices = this.byUser.get(session.userId);
    if (devices === undefined) {
      devices = new Map();
      this.byUser.set(session.userId, devices);
    }
    if (!devices.has(session.device)) this.sessions++;
    devices.set(session.device, session);
  }

  /** Removes a session, unless another one took its place; true where it was the user's last. */
  remove(session: Session): boolean {
    const devices = this.byUser.get(session.userId);
    if (devices?.get(session.device) !== session) return false;
    devices.delete(session.device);
    this.sessions--;
    if (devices.size > 0) return false;
    this.byUser.delete(session.userId);
    return true;
  }
}
