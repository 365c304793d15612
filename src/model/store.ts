// The operations that the server asks of its store, each one transaction. The SQL is in the files beside this one.
import type { Store as StoreOf } from "../db/db.ts";
import { backlog, deliveredOf, missingOf, saveCursors, startsOf } from "./device.ts";
import { addFriend, friendsOf, listedBy } from "./friend.ts";
import { createGroup, groupsOf, joinGroup, memberIds, membersPage } from "./group.ts";
import { append } from "./message.ts";
import { devicesAt, devicesOf, replacedAmong } from "./online.ts";
import { closeDevices, openDevice } from "./owner.ts";
import { createUser, credentials, rehash, revokeTokens, setting } from "./user.ts";

export const operations = {
  addFriend,
  append,
  backlog,
  closeDevices,
  createGroup,
  createUser,
  credentials,
  devicesAt,
  devicesOf,
  deliveredOf,
  friendsOf,
  groupsOf,
  joinGroup,
  listedBy,
  memberIds,
  membersPage,
  missingOf,
  openDevice,
  rehash,
  replacedAmong,
  revokeTokens,
  saveCursors,
  setting,
  startsOf,
};

export type Store = StoreOf<typeof operations>;
