// A time limit on what is asked of a store, whatever it is waiting for: a lock, a disk, a connection.
import { StoreError } from "./db.ts";

/**
 * From now on calls of these operations reject with StoreError after `ms`; what they were to do may be done all the same.
 * Changes `store`, and returns it.
 */
export function limitCalls<S extends object>(store: S, names: string[], ms: number): S {
  const calls = store as Record<string, (...args: unknown[]) => Promise<unknown>>;
  for (const name of names) {
    const call = calls[name]!;
    calls[name] = (...args) => {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      const late = setTimeout(() => reject(new StoreError(`${name}: not done within ${ms} ms`)), ms);
      call(...args)
        .then(resolve, reject)
        .finally(() => clearTimeout(late));
      return promise;
    };
  }
  return store;
}
