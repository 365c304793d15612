// Device ownership: logins take it, and give it back at their end.
import { ALONE, type Call, type Tx } from "../db/db.ts";
import { ChatError, Errno } from "../protocol.ts";

export interface OpenedDevice {
  id: number;
  epoch: number;
  /** The other, living boot at which the device was online: its session must be ended. "" where there is none. */
  from: string;
}

interface Device {
  id: number;
  userId: number;
  name: string;
  epoch: number;
  boot: string;
}

type OpenCall = [
  userId: number,
  name: string,
  boot: string,
  takeover?: boolean,
  online?: string[],
  isWanted?: () => boolean,
];
type CloseCall = [closed: [device: number, epoch: number][]];

const DEVICE = ["id", "user_id AS userId", "name", "epoch", "boot"];

/** Devices remembered per user. */
const MAX_DEVICES = 128;
const FORGOTTEN_AT_ONCE = 4;
/** How often it is noted that a device is in use. */
const NOTED_EVERY_MS = 300_000;

/**
 * Claims (user, device) for a login at `boot`: the higher epoch owns the device. A device's first login creates it,
 * with the cursors of the user's most advanced device, so that what nobody has received arrives and what is older does
 * not; of very many devices the least recently used are forgotten then. Throws errno 2 where the device is online at
 * another boot, unless `takeover` is set. `online`: the user's devices with sessions or pending logins at `boot`.
 * `isWanted` (given only where the store runs in the caller's thread) is asked last, while the row is locked: a login
 * delayed by the store, whose client has gone elsewhere meanwhile, must not be committed after the newer one.
 */
export async function openDevice(
  tx: Tx,
  userId: number,
  name: string,
  boot: string,
  takeover = true,
  online: string[] = [],
  isWanted: () => boolean = () => true,
): Promise<OpenedDevice> {
  const [known] = await tx.lock<Device>("device", DEVICE, ["user_id", "name"], [[userId, name]]);
  if (known === undefined) {
    const id = await createDevice(tx, userId, name, boot, online);
    refuseUnwanted(isWanted);
    return { id, epoch: 1, from: "" };
  }
  const others = known.boot === "" || known.boot === boot ? [] : [known.boot];
  const from = (await tx.alive(others)).has(known.boot) ? known.boot : "";
  if (from !== "" && !takeover) throw onlineElsewhere();
  const { id } = known;
  const epoch = known.epoch + 1;
  await tx.run("UPDATE device SET epoch = ?, boot = ?, used = ? WHERE id = ?", [epoch, boot, Date.now(), id]);
  refuseUnwanted(isWanted);
  return { id, epoch, from };
}

const onlineElsewhere = (): ChatError =>
  new ChatError(Errno.alreadyOnline, "you are already online on this device: log in with takeover to end that session");

const unwanted = (): ChatError => new ChatError(Errno.unavailable, "nobody is waiting for this login any more");

function refuseUnwanted(isWanted: () => boolean): void {
  if (!isWanted()) throw unwanted();
}

/** Milliseconds since 1970 UTC; 0: from before times were noted. */
export interface Times {
  id: number;
  made: number;
  /** Its last login or saved position, up to NOTED_EVERY_MS late; equals `made` where there was none since. */
  used: number;
}

type Other = Times & { name: string; boot: string };

/** Notes that these devices, whose positions are being saved, are in use. */
export async function noteUse(tx: Tx, devices: Times[]): Promise<void> {
  const now = Date.now();
  const isDue = ({ made, used }: Times) => used === made || Math.abs(now - used) > NOTED_EVERY_MS;
  const due = devices.filter(isDue).map(({ id }) => id);
  // Only MySQL and MariaDB execute the text in /*! */, which leaves `changed` as it is: nobody came or went.
  if (due.length > 0) await tx.run("UPDATE device SET used = ? /*! , changed = changed */ WHERE id IN (?)", [now, due]);
}

async function createDevice(tx: Tx, userId: number, name: string, boot: string, online: string[]): Promise<number> {
  const others = await tx.find<Other>("device", ["id", "name", "boot", "made", "used"], ["user_id"], [[userId]]);
  const now = Date.now();
  const columns = ["user_id", "name", "epoch", "boot", "made", "used"];
  const id = await tx.create("device", columns, [userId, name, 1, boot, now, now]);
  const boots = new Set(others.map((other) => other.boot));
  const alive = await tx.alive([...boots].filter((each) => each !== "" && each !== boot));
  const isOnline = (other: Other) => online.includes(other.name) || alive.has(other.boot);
  const newest = others.reduce<Other | null>(
    (found, each) => (found === null || each.id > found.id ? each : found),
    null,
  );
  const advanced = others
    .filter((other) => isOnline(other) || mayBeAhead(other, newest!, now))
    .map((other) => other.id);
  if (advanced.length > 0)
    await tx.run(
      "INSERT INTO `cursor` (device, conversation, seq) " +
        "SELECT ?, conversation, max(seq) FROM `cursor` WHERE device IN (?) GROUP BY conversation",
      [id, advanced],
    );
  const tooMany = others.length + 1 - MAX_DEVICES;
  const idle = others.filter((other) => !isOnline(other)).sort((a, b) => a.used - b.used);
  if (tooMany > 0) await forget(tx, idle.slice(0, Math.min(tooMany, FORGOTTEN_AT_ONCE)));
  return id;
}

/** The newest device started as far ahead as any: others can be ahead of it only if used since. */
const mayBeAhead = ({ id, made, used }: Times, newest: Times, now: number): boolean =>
  id === newest.id ||
  // Its use may not have been noted, or the clock was set back.
  used === 0 ||
  newest.made > now ||
  (used !== made && used >= newest.made - NOTED_EVERY_MS);

/** Deletes devices and their cursors, unless they have been used meanwhile. */
async function forget(tx: Tx, devices: Other[]): Promise<void> {
  const known = new Map(devices.map(({ id, used }) => [id, used]));
  const found = await tx.lock<Other>(
    "device",
    ["id", "used"],
    ["id"],
    devices.map(({ id }) => [id]),
    "skip",
  );
  const ids = found.filter(({ id, used }) => known.get(id) === used).map(({ id }) => id);
  if (ids.length === 0) return;
  await tx.run("DELETE FROM `cursor` WHERE device IN (?)", [ids]);
  await tx.run("DELETE FROM device WHERE id IN (?)", [ids]);
}

/** Marks devices whose sessions have ended as offline, except those that a later login owns. */
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
 * Runs calls of `openDevice` and `closeDevices` in one transaction that waits for no row lock: whoever holds one delays
 * that login only. Devices that are new, or locked by another transaction, have ALONE as their outcome. `isWanted` is
 * asked while the rows are locked: nobody else can commit a login of the device before this one.
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
  const open = ([userId, name, , takeover = true, , isWanted = () => true]: OpenCall) => {
    const key = `${userId}/${name}`;
    const device = byName.get(key);
    if (device === undefined) return ALONE;
    const { id, epoch } = device;
    const from = alive.has(device.boot) ? device.boot : "";
    if (from !== "" && !takeover) return onlineElsewhere();
    if (!isWanted()) return unwanted();
    // A second login of the same device is run alone, after this one.
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
  // In this order: after a logout, the same device may log in in the same batch.
  if (ended.length > 0) await tx.run(CLOSE, [ended]);
  if (opened.length > 0)
    await tx.run("UPDATE device SET epoch = epoch + 1, boot = ?, used = ? WHERE id IN (?)", [boot, Date.now(), opened]);
  return outcomes;
}
