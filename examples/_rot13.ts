/** Rotates ASCII letters by 13 places, in place; other bytes do not change. */
export function rot13(bytes: Uint8Array): Uint8Array {
  for (let i = 0; i < bytes.length; i++) {
    const c = bytes[i] as number;
    const letter = c | 32; // in lower case
    if (letter >= 97 && letter <= 109) bytes[i] = c + 13; // a to m
    else if (letter >= 110 && letter <= 122) bytes[i] = c - 13; // n to z
  }
  return bytes;
}
