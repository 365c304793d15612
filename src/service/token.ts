// Tokens, for logging in again without the password. Signed with the store's secret, so valid on every instance.
import { createHmac, timingSafeEqual } from "node:crypto";

export interface TokenClaims {
  userId: number;
  /** Must equal the user's: revoking the tokens increments that. */
  tokenEpoch: number;
}

/** `<user>.<epoch>.<expiry, seconds since 1970>.<HMAC-SHA256 of these>`, valid for `ttlMs` from `now` (ms) on. */
export function issueToken(secret: string, { userId, tokenEpoch }: TokenClaims, now: number, ttlMs: number): string {
  const claims = `${userId}.${tokenEpoch}.${Math.ceil((now + ttlMs) / 1000)}`;
  return `${claims}.${sign(secret, claims)}`;
}

/** The claims of a token; null where it is not ours or has expired. The caller checks whether the epoch still holds. */
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
