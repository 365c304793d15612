// Who owns a device: log-ins take it, and give it back at their end.
import { ALONE, type Call, type Tx } from "../db/db.ts";
import { ChatError, Errno } from "../protocol.ts";

export interface OpenedDevice {
  id: number;
  epoch: number;
  /** The other boot, still alive, that the device was online at: its session is to be ended. "" where there is none. */
  from: string;
}

interface Device {
  id: number;
  userId: number;
  name: string;
  epoch: number;
  boot: string;
}

type OpenCall = [userId: number, name: string, boot: string, takeover?: boolean, isWanted?: () => boolean];
type CloseCall = [closed: [device: number, epoch: number][]];

const DEVICE = ["id", "user_id AS userId", "name", "epoch", "boot"];

/**
 * Claims (user, device) for a login at `boot`: the higher epoch owns. A device's first login makes it, with the cursors
 * of the user's most advanced device, so that what nobody has received arrives and what is older does not. Throws errno
 * 2 where the device is online at another boot, unless `takeover` is set. `isWanted` (given where the store is in the
 * caller's thread) is asked last: a log-in that the store was slow with, and whose client has gone elsewhere meanwhile, must
 * not be committed after the newer one. What is committed then came before: it holds the row.
 */
export async function openDevice(
  tx: Tx,
  userId: number,
  name: string,
  boot: string,
  takeover = true,
  isWanted: () => boolean = () => true,
): Promise<OpenedDevice> {
  const [known] = await tx.lock<Device>("device", DEVICE, ["user_id", "name"], [[userId, name]]);
  if (known === undefined) {
    const id = await createDevice(tx, userId, name, boot);
    refuseUnwanted(isWanted);
    return { id, epoch: 1, from: "" };
  }
  const others = known.boot === "" || known.boot === boot ? [] : [known.boot];
  const from = (await tx.alive(others)).has(known.boot) ? known.boot : "";
  if (from !== "" && !takeover) throw onlineElsewhere();
  const { id } = known;
  const epoch = known.epoch + 1;
  await tx.run("UPDATE device SET epoch = ?, boot = ? WHERE id = ?", [epoch, boot, id]);
  refuseUnwanted(isWanted);
  return { id, epoch, from };
}

const onlineElsewhere = (): ChatError =>
  new ChatError(Errno.alreadyOnline, "you are online on this device already: log in with takeover to end that session");

const unwanted = (): ChatError => new ChatError(Errno.unavailable, "nobody waits for this log-in any more");

function refuseUnwanted(isWanted: () => boolean): void {
  if (!isWanted()) throw unwanted();
}

async function createDevice(tx: Tx, userId: number, name: string, boot: string): Promise<number> {
  const { id } = await tx.run("INSERT INTO device (user_id, name, epoch, boot) VALUES (?, ?, 1, ?)", [
    userId,
    name,
    boot,
  ]);
  await tx.run(
    "INSERT INTO `cursor` (device, conversation, seq) " +
      "SELECT ?, c.conversation, max(c.seq) FROM device d JOIN `cursor` c ON c.device = d.id WHERE d.user_id = ? " +
      "GROUP BY c.conversation",
    [id, userId],
  );
  return id;
}

/** Devices whose sessions have ended, except those that a later login owns. */
export async function closeDevices(tx: Tx, closed: [device: number, epoch: number][]): Promise<void> {
  const ids = closed.map(([id]) => [id]);
  const ended = endedAmong(await tx.lock<Device>("device", DEVICE, ["id"], ids), closed);
  if (ended.length > 0) await tx.run(CLOSE, [ended]);
}

const CLOSE = "UPDATE device SET boot = '' WHERE id IN (?)";

function endedAmong(devices: Device[], closed: [device: number, epoch: number][]): number[] {
  const epochs = new Map(closed);
  return devices.filter(({ id, epoch, boot }) => epochs.get(id) === epoch && boot !== "").map(({ id }) => id);
}

/**
 * Calls of `openDevice` and `closeDevices` in one transaction, which waits for no row: whoever holds one holds up this
 * log-in alone. So what is new, or held by another transaction, is to be done alone. `isWanted` is asked when the rows are
 * held: nobody else commits a log-in of the device before this one.
 */
export async function turnDevices(tx: Tx, calls: Call[]): Promise<unknown[]> {
  const opens = calls.filter(([name]) => name === "openDevice").map(([, args]) => args as OpenCall);
  const closed = calls.filter(([name]) => name === "closeDevices").flatMap(([, args]) => (args as CloseCall)[0]);
  const closedIds = closed.map(([id]) => [id]);
  const [toOpen, toClose] = await Promise.all([
    tx.lock<Device>(
      "device",
      DEVICE,
      ["user_id", "name"],
      opens.map(([userId, name]) => [userId, name]),
      "skip",
    ),
    tx.lock<Device>("device", DEVICE, ["id"], closedIds, "skip"),
  ]);
  const boot = opens[0]?.[2] ?? "";
  const others = new Set(toOpen.map((device) => device.boot));
  others.delete("");
  others.delete(boot);
  const alive = await tx.alive([...others]);
  const byName = new Map(toOpen.map((device) => [`${device.userId}/${device.name}`, device]));
  const opened: number[] = [];
  const open = ([userId, name, , takeover = true, isWanted = () => true]: OpenCall) => {
    const key = `${userId}/${name}`;
    const device = byName.get(key);
    if (device === undefined) return ALONE;
    const { id, epoch } = device;
    const from = alive.has(device.boot) ? device.boot : "";
    if (from !== "" && !takeover) return onlineElsewhere();
    if (!isWanted()) return unwanted();
    // A second one of the same device comes after it.
    byName.delete(key);
    opened.push(id);
    return { id, epoch: epoch + 1, from };
  };
  const locked = new Set(toClose.map(({ id }) => id));
  const outcomes = calls.map(([name, args]) => {
    if (name === "openDevice") return open(args as OpenCall);
    return (args as CloseCall)[0].every(([id]) => locked.has(id)) ? undefined : ALONE;
  });
  const ended = endedAmong(toClose, closed);
  // In this order: who has logged out may log in again at once.
  await Promise.all([
    ended.length > 0 ? tx.run(CLOSE, [ended]) : null,
    opened.length > 0 ? tx.run("UPDATE device SET epoch = epoch + 1, boot = ? WHERE id IN (?)", [boot, opened]) : null,
  ]);
  return outcomes;
}
