// Who is online where, as committed by the logins: authoritative, unlike what Redis says.
import type { Tx } from "../db/db.ts";

export interface OnlineDevice {
  userId: number;
  device: string;
  epoch: number;
  boot: string;
}

/** These users' devices online at `boot` (the caller's own), at another living boot, or at one of `stillCounted`. */
export async function devicesOf(
  tx: Tx,
  userIds: number[],
  boot: string,
  stillCounted: string[] = [],
): Promise<OnlineDevice[]> {
  return (await devicesOfEach(tx, [[userIds, boot, stillCounted]]))[0]!;
}

export async function devicesOfEach(
  tx: Tx,
  calls: [userIds: number[], boot: string, stillCounted?: string[]][],
): Promise<OnlineDevice[][]> {
  const columns = ["user_id AS userId", "name AS device", "epoch", "boot"];
  const ids = [...new Set(calls.flatMap(([userIds]) => userIds))].map((id) => [id]);
  const devices = await tx.find<OnlineDevice>("device", columns, ["user_id"], ids);
  const counted = calls.map(([, boot, stillCounted = []]) => new Set([boot, ...stillCounted]));
  const boots = new Set(devices.map((device) => device.boot));
  boots.delete("");
  const alive = await tx.alive([...boots].filter((boot) => !counted.every((each) => each.has(boot))));
  const byUser = Map.groupBy(devices, ({ userId }) => userId);
  return calls.map(([userIds], i) => {
    const isOnline = ({ boot }: OnlineDevice) => alive.has(boot) || counted[i]!.has(boot);
    return [...new Set(userIds)].flatMap((id) => (byUser.get(id) ?? []).filter(isOnline));
  });
}

/** The devices that are online at these boots, or were when the boots ended. */
export async function devicesAt(tx: Tx, boots: string[]): Promise<(OnlineDevice & { id: number })[]> {
  const columns = ["id", "user_id AS userId", "name AS device", "epoch", "boot"];
  return tx.find(
    "device",
    columns,
    ["boot"],
    boots.map((boot) => [boot]),
  );
}

/** The devices among these logins that a later login owns. */
export async function replacedAmong(tx: Tx, logins: [device: number, epoch: number][]): Promise<number[]> {
  const ids = logins.map(([device]) => [device]);
  const rows = await tx.find<{ id: number; epoch: number }>("device", ["id", "epoch"], ["id"], ids);
  const epochs = new Map(rows.map(({ id, epoch }) => [id, epoch]));
  return logins.filter(([device, epoch]) => (epochs.get(device) ?? 0) > epoch).map(([device]) => device);
}
