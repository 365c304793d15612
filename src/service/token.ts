// Tokens: log in again without the password. Signed with the store's secret, so that they hold on every instance.
import { createHmac, timingSafeEqual } from "node:crypto";

export interface TokenClaims {
  userId: number;
  /** Must be the user's: revoking the tokens counts it up. */
  tokenEpoch: number;
}

/** `<user>.<epoch>.<expiry, seconds since 1970>.<HMAC-SHA256 of these>`, good for `ttlMs` from `now` (ms) on. */
export function issueToken(secret: string, { userId, tokenEpoch }: TokenClaims, now: number, ttlMs: number): string {
  const claims = `${userId}.${tokenEpoch}.${Math.ceil((now + ttlMs) / 1000)}`;
  return `${claims}.${sign(secret, claims)}`;
}

/** What a token says; null where it is not ours or has expired. Whether its epoch still holds is for the caller. */
export function readToken(secret: string, token: string, now: number): TokenClaims | null {
  const match = /^(([1-9]\d{0,15})\.(\d{1,15})\.(\d{1,15}))\.([\w-]{43})$/.exec(token);
  if (match === null) return null;
  const [, claims, userId, tokenEpoch, expiry, signature] = match;
  if (!timingSafeEqual(Buffer.from(sign(secret, claims!)), Buffer.from(signature!))) return null;
  if (Number(expiry) * 1000 <= now) return null;
  return { userId: Number(userId), tokenEpoch: Number(tokenEpoch) };
}

const sign = (secret: string, claims: string): string =>
  createHmac("sha256", secret).update(claims).digest("base64url");
