// WIT types as the API writes them (docs/values.md, section 1), read into trees; and values of them as JSON (section 7).

export type Scalar =
  | "bool" | "s8" | "u8" | "s16" | "u16" | "s32" | "u32" | "s64" | "u64" | "f32" | "f64" | "char" | "string";

export type Type =
  | { kind: "scalar"; name: Scalar }
  | { kind: "list"; of: Type; length?: number }
  | { kind: "map"; key: Type; value: Type }
  | { kind: "tuple"; of: Type[] }
  | { kind: "record"; fields: { name: string; ty: Type }[] }
  | { kind: "variant"; cases: { name: string; ty: Type | null }[] }
  | { kind: "enum"; names: string[] }
  | { kind: "flags"; names: string[] }
  | { kind: "option"; of: Type }
  | { kind: "result"; ok: Type | null; err: Type | null }
  /** What no form can ask for: handles, streams, what was left out. */
  | { kind: "other"; text: string };

const SCALARS = new Set(["bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string"]);

class Reader {
  private at = 0;
  private readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  done(): boolean {
    this.space();
    return this.at >= this.text.length;
  }

  private space(): void {
    while (/\s/.test(this.text[this.at] ?? "")) this.at += 1;
  }

  private is(mark: string): boolean {
    this.space();
    if (!this.text.startsWith(mark, this.at)) return false;
    this.at += mark.length;
    return true;
  }

  private need(mark: string): void {
    if (!this.is(mark)) throw new Error(`expected ${mark} at ${this.at} of ${this.text}`);
  }

  private word(): string {
    this.space();
    const word = /^%?[A-Za-z0-9_-]+/.exec(this.text.slice(this.at))?.[0] ?? "";
    this.at += word.length;
    return word.replace(/^%/, "");
  }

  private many<T>(one: () => T, end: string): T[] {
    const found: T[] = [];
    while (!this.is(end)) {
      found.push(one());
      if (!this.is(",")) {
        this.need(end);
        break;
      }
    }
    return found;
  }

  private perhaps(): Type | null {
    return this.is("_") ? null : this.type();
  }

  /** Something in angle brackets that is not looked into. */
  private rest(name: string): Type {
    const from = this.at;
    let depth = 0;
    do {
      if (this.text[this.at] === "<") depth += 1;
      if (this.text[this.at] === ">") depth -= 1;
      if (depth === 0 && this.text[this.at] !== ">") break;
      this.at += 1;
    } while (depth > 0 && this.at < this.text.length);
    return { kind: "other", text: name + this.text.slice(from, this.at) };
  }

  type(): Type {
    if (this.is("...")) return { kind: "other", text: "..." };
    const name = this.word();
    if (SCALARS.has(name)) return { kind: "scalar", name: name as Scalar };
    switch (name) {
      case "list": {
        this.need("<");
        const of = this.type();
        const length = this.is(",") ? Number(this.word()) : undefined;
        this.need(">");
        return length === undefined ? { kind: "list", of } : { kind: "list", of, length };
      }
      case "map": {
        this.need("<");
        const key = this.type();
        this.need(",");
        const value = this.type();
        this.need(">");
        return { kind: "map", key, value };
      }
      case "option": {
        this.need("<");
        const of = this.type();
        this.need(">");
        return { kind: "option", of };
      }
      case "tuple":
        this.need("<");
        return { kind: "tuple", of: this.many(() => this.type(), ">") };
      case "result": {
        if (!this.is("<")) return { kind: "result", ok: null, err: null };
        const ok = this.perhaps();
        const err = this.is(",") ? this.perhaps() : null;
        this.need(">");
        return { kind: "result", ok, err };
      }
      case "record":
        this.need("{");
        return {
          kind: "record",
          fields: this.many(() => {
            const name = this.word();
            this.need(":");
            return { name, ty: this.type() };
          }, "}"),
        };
      case "variant":
        this.need("{");
        return {
          kind: "variant",
          cases: this.many(() => {
            const name = this.word();
            if (!this.is("(")) return { name, ty: null };
            const ty = this.type();
            this.need(")");
            return { name, ty };
          }, "}"),
        };
      case "enum":
        this.need("{");
        return { kind: "enum", names: this.many(() => this.word(), "}") };
      case "flags":
        this.need("{");
        return { kind: "flags", names: this.many(() => this.word(), "}") };
      case "":
        throw new Error(`no type at ${this.at} of ${this.text}`);
      default:
        return this.rest(name);
    }
  }
}

export function parse(text: string): Type {
  try {
    const reader = new Reader(text);
    const type = reader.type();
    return reader.done() ? type : { kind: "other", text };
  } catch {
    return { kind: "other", text };
  }
}

export function isBytes(type: Type): boolean {
  return type.kind === "list" && type.of.kind === "scalar" && type.of.name === "u8";
}

/** Whether a form can ask for a value of the type. */
export function canAsk(type: Type | null): boolean {
  switch (type?.kind) {
    case undefined:
    case "scalar":
    case "enum":
    case "flags":
      return true;
    case "other":
      return false;
    case "list":
    case "option":
      return canAsk(type.of);
    case "map":
      return canAsk(type.key) && canAsk(type.value);
    case "tuple":
      return type.of.every(canAsk);
    case "record":
      return type.fields.every((field) => canAsk(field.ty));
    case "variant":
      return type.cases.every((one) => canAsk(one.ty));
    case "result":
      return canAsk(type.ok) && canAsk(type.err);
  }
}

/** The value that a form begins with. */
export function first(type: Type | null): unknown {
  switch (type?.kind) {
    case undefined:
    case "option":
    case "other":
      return null;
    case "scalar":
      return type.name === "bool" ? false : type.name === "string" ? "" : type.name === "char" ? "a" : 0;
    case "list":
      if (isBytes(type)) return "";
      return Array.from({ length: type.length ?? 0 }, () => first(type.of));
    case "map":
      return [];
    case "tuple":
      return type.of.map(first);
    case "record":
      return Object.fromEntries(type.fields.map((field) => [field.name, first(field.ty)]));
    case "variant": {
      const one = type.cases[0];
      return one?.ty ? { [one.name]: first(one.ty) } : (one?.name ?? null);
    }
    case "enum":
      return type.names[0] ?? "";
    case "flags":
      return [];
    case "result":
      return { ok: first(type.ok) };
  }
}

const RANGES: Partial<Record<Scalar, [bigint, bigint]>> = Object.fromEntries(
  [8, 16, 32, 64].flatMap((bits) => [
    [`u${bits}`, [0n, 2n ** BigInt(bits) - 1n]],
    [`s${bits}`, [-(2n ** BigInt(bits - 1)), 2n ** BigInt(bits - 1) - 1n]],
  ]),
);

export function range(name: Scalar): [bigint, bigint] | null {
  return RANGES[name] ?? null;
}

/** A number as it was typed, as the JSON that means it; or what is wrong with it. */
export function readNumber(name: Scalar, text: string): { value: unknown } | { wrong: string } {
  const typed = text.trim();
  const bounds = range(name);
  if (bounds) {
    if (!/^[+-]?\d+$/.test(typed)) return { wrong: "a whole number is needed" };
    const number = BigInt(typed.replace(/^\+/, ""));
    if (number < bounds[0] || number > bounds[1]) return { wrong: `from ${bounds[0]} to ${bounds[1]}` };
    // What a number of JSON does not hold exactly travels as a text.
    return { value: Number.isSafeInteger(Number(number)) ? Number(number) : number.toString() };
  }
  if (/^[+-]?(nan|inf(inity)?)$/i.test(typed)) {
    return { value: /nan/i.test(typed) ? "NaN" : typed.startsWith("-") ? "-Infinity" : "Infinity" };
  }
  const number = Number(typed);
  return typed === "" || Number.isNaN(number) ? { wrong: "a number is needed" } : { value: number };
}
