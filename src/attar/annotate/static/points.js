// Texts in Unicode code points: offsets here are the offsets of the server, never UTF-16 units.

const graphemes = new Intl.Segmenter("th", { granularity: "grapheme" });

/** The code points of a text. */
export function points(text) {
  return Array.from(text);
}

/** The grapheme clusters of a text: [{ text, start, end }], offsets in code points. */
export function clusters(text) {
  let end = 0;
  return Array.from(graphemes.segment(text), ({ segment }) => {
    const start = end;
    end += points(segment).length;
    return { text: segment, start, end };
  });
}

const LEADING = /[\u0e40-\u0e44]/; // a vowel written before its consonant
const FOLLOWING = /[\u0e30-\u0e3a\u0e45\u0e47-\u0e4e]/; // vowels and marks that begin no word

/** The offsets at which a Thai word can begin, without 0 and without the end of the text. */
export function legal(text) {
  const all = points(text);
  const edges = clusters(text).map(({ start }) => start);
  return edges.filter((at) => at > 0 && !FOLLOWING.test(all[at]) && !LEADING.test(all[at - 1]));
}

/** The words between cuts. */
export function words(text, cuts) {
  const all = points(text);
  const ends = [...cuts, all.length];
  return ends.map((end, i) => all.slice(i ? ends[i - 1] : 0, end).join("")).filter(Boolean);
}

const NAMES = new Map([
  [0x09, "TAB"], [0x0a, "LF"], [0x0d, "CR"], [0x20, "␣"], [0xa0, "NBSP"], [0xad, "SHY"],
  [0x061c, "ALM"], [0x200b, "ZWSP"], [0x200c, "ZWNJ"], [0x200d, "ZWJ"], [0x200e, "LRM"],
  [0x200f, "RLM"], [0x2028, "LS"], [0x2029, "PS"], [0x202f, "NNBSP"], [0x2060, "WJ"],
  [0x3000, "IDSP"], [0xfeff, "BOM"],
]);
const UNSEEN = /^[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Cs}\p{Z}]$/u;
const EMOJI = /\p{Extended_Pictographic}/u;

/** What stands for a code point that cannot be seen; null for one that can. */
export function nameOf(point) {
  if (!UNSEEN.test(point)) return null;
  const code = point.codePointAt(0);
  return NAMES.get(code) ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** The names of what cannot be seen in a cluster; what joins an emoji is seen by its effect. */
export function unseen(cluster) {
  return EMOJI.test(cluster) ? [] : points(cluster).map(nameOf).filter(Boolean);
}

/** Whether nikhahit and sara aa stand at an offset where one sara am is usual. */
export function decomposed(text, at) {
  return points(text).slice(at - 1, at + 1).join("") === "\u0e4d\u0e32";
}
