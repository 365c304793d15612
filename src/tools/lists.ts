// The friend lists and groups of an import.
import { acceptable, isId } from "./accounts.ts";
import type { Import } from "./import.ts";
import { grouped, Progress } from "./progress.ts";

const DESCRIPTION_LENGTH = 200;

export async function importFriends({ source, builder, notes, users }: Import): Promise<void> {
  if (!source.has("friend")) return notes.add("tables skipped, because they are missing", "friend");
  const progress = new Progress("friends", await source.count("friend"));
  await builder.fill(
    source.rows("friend"),
    ([user, friend]) => {
      progress.advance(1);
      if (users.has(Number(user)) && users.has(Number(friend))) return [Number(user), Number(friend)];
      notes.add("friends left out, because there is no such user", `${user} -> ${friend}`);
      return null;
    },
    (rows) => builder.tx.insert("friend", ["user_id", "friend_id"], rows, "ignore"),
  );
  progress.end(`${grouped(builder.count("SELECT count(*) FROM friend"))} imported`);
}

/** Imports groups and their members; returns the groups' conversation ids, by group. */
export async function importGroups(work: Import): Promise<Map<number, number>> {
  const { source, builder, notes } = work;
  for (const table of ["allgroup", "groupuser"] as const)
    if (!source.has(table)) notes.add("tables skipped, because they are missing", table);
  const names = new Map<number, number>();
  await builder.fill(
    source.rows("allgroup"),
    ([givenId, givenName, givenText]) => {
      const id = Number(givenId);
      if (!isId(id) || names.has(id)) {
        notes.add("groups left out, because their id is not a positive number or not unique", `id ${givenId}`);
        return null;
      }
      names.set(id, 0);
      const name = acceptable(String(givenName ?? ""), `group${id}`);
      if (name !== givenName) notes.add("groups renamed to a valid name", `group ${id}: ${JSON.stringify(name)}`);
      const text = String(givenText ?? "").toWellFormed();
      const short = [...text].slice(0, DESCRIPTION_LENGTH).join("");
      if (short !== text) notes.add("group descriptions cut to 200 characters", `group ${id}`);
      return [id, name, short];
    },
    async (rows) => {
      await builder.tx.insert("chat_group", ["id", "name", "description"], rows);
      for (const [id] of rows)
        names.set(id as number, await builder.tx.create("conversation", ["kind", "lo", "hi"], [1, id!, 0]));
    },
  );
  await importMembers(work, names);
  const members = builder.count("SELECT count(*) FROM member");
  new Progress("groups", names.size).end(`${grouped(names.size)} imported, with ${grouped(members)} members`);
  return names;
}

async function importMembers({ source, builder, notes, users }: Import, groups: Map<number, number>): Promise<void> {
  const progress = new Progress("group members", await source.count("groupuser"));
  const creators = new Map<number, number>();
  await builder.fill(
    source.rows("groupuser"),
    ([group, user, role]) => {
      progress.advance(1);
      const [groupId, userId] = [Number(group), Number(user)];
      const conversation = groups.get(groupId);
      if (conversation === undefined || !users.has(userId)) {
        notes.add("members left out, because there is no such user or group", `user ${user} in group ${group}`);
        return null;
      }
      if (role !== "creator") return [conversation, userId, "normal", 0];
      const first = creators.get(groupId);
      if (first === undefined) creators.set(groupId, userId);
      if (first === undefined || first === userId) return [conversation, userId, "creator", 0];
      notes.add(
        "further creators of a group made its admins",
        `user ${userId} in group ${groupId}, created by ${first}`,
      );
      return [conversation, userId, "admin", 0];
    },
    // If somebody is a member twice, the higher role counts.
    (rows) => {
      const rank = (role: unknown) => ["creator", "admin", "normal"].indexOf(String(role));
      return Promise.all(
        rows.map((row) =>
          builder.tx.run(
            `INSERT INTO member (conversation, user_id, role, join_seq) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET role = excluded.role WHERE ${rank(row[2])} < CASE role WHEN 'creator' THEN 0 WHEN 'admin' THEN 1 ELSE 2 END`,
            row,
          ),
        ),
      );
    },
  );
  for (const [group, conversation] of groups) {
    if (creators.has(group)) continue;
    const [first] = await builder.tx.all<{ id: number | null }>(
      "SELECT min(user_id) AS id FROM member WHERE conversation = ?",
      [conversation],
    );
    if (first?.id == null) continue;
    await builder.tx.run("UPDATE member SET role = 'creator' WHERE conversation = ? AND user_id = ?", [
      conversation,
      first.id,
    ]);
    notes.add("groups without a creator, given to their member with the lowest id", `group ${group}: user ${first.id}`);
  }
}
