// Everything the server asks of its store: each operation is one transaction. The SQL is in the files beside this one.
import type { Store as StoreOf } from "../db/db.ts";
import { backlog, deliveredOf, openDevice, saveCursors } from "./device.ts";
import { addFriend, friendsOf, listedBy } from "./friend.ts";
import { createGroup, groupsOf, joinGroup, memberIds, membersPage } from "./group.ts";
import { append } from "./message.ts";
import { createUser, credentials, rehash, revokeTokens, setting } from "./user.ts";

export const operations = {
  addFriend,
  append,
  backlog,
  createGroup,
  createUser,
  credentials,
  deliveredOf,
  friendsOf,
  groupsOf,
  joinGroup,
  listedBy,
  memberIds,
  membersPage,
  openDevice,
  rehash,
  revokeTokens,
  saveCursors,
  setting,
};

export type Store = StoreOf<typeof operations>;
