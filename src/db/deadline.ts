// A time limit for calls to a store, whatever they wait for: a lock, a disk, a connection.
import { StoreError } from "./db.ts";

/** Rejects with StoreError where `call` has not settled after `ms`; it may still take effect later. */
export function within<T>(ms: number, name: string, call: Promise<T>): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const late = setTimeout(() => reject(new StoreError(`${name}: not done within ${ms} ms`)), ms);
  call.then(resolve, reject).finally(() => clearTimeout(late));
  return promise;
}

/** Limits every call of these operations to `ms`, see `within`. Changes `store`, and returns it. */
export function limitCalls<S extends object>(store: S, names: string[], ms: number): S {
  const calls = store as Record<string, (...args: unknown[]) => Promise<unknown>>;
  for (const name of names) {
    const call = calls[name]!;
    calls[name] = (...args) => within(ms, name, call(...args));
  }
  return store;
}
