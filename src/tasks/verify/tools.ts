/**
 * The tools of a problem, read from the forms in which data sets declare them.
 *
 * BFCL and OpenAI have a schema `{type, properties, required}`; xLAM and Hammer a flat `{parameter: {type, ...}}`, where
 * `required` is a flag of the parameter or a list of the tool, and a parameter with a default or with ", optional" in
 * its type may be left out. Types are names of JSON Schema, of BFCL (`dict`, `float`, `tuple`, `any`) or of Python
 * (`str`, `List[int]`, `list(str)`). Each becomes BFCL's name for its rules and JSON Schema's for prompts.
 */
import { isDict, isList } from './values.ts';
import type { Dict, Value } from './values.ts';

export type ParameterType = 'string' | 'integer' | 'float' | 'boolean' | 'array' | 'tuple' | 'dict' | 'any';

export interface Parameter {
  /** undefined where the declaration names none that is known. */
  type: ParameterType | undefined;
  /** Of the items of a list or tuple. */
  itemType: ParameterType | undefined;
  default?: Value;
}

export interface Tool {
  name: string;
  parameters: ReadonlyMap<string, Parameter>;
  required: readonly string[];
  /** `{name, description, parameters}` with a JSON Schema, for prompts. */
  schema: Dict;
}

/** Throws an Error `expected X, got Y` for what is no list of tools. */
export function readTools(value: Value): Tool[] {
  if (!isList(value)) throw new Error('expected a list of tools, got another value');
  return value.map((each, index) => {
    const nested = isDict(each) ? each.get('function') : undefined;
    const tool = isDict(nested) ? nested : each;
    const name = isDict(tool) ? tool.get('name') : undefined;
    if (!isDict(tool) || typeof name !== 'string') {
      throw new Error(`tool ${index + 1}: expected an object with a name, got none`);
    }
    return readTool(tool, name);
  });
}

function readTool(tool: Dict, name: string): Tool {
  const declared = tool.get('parameters');
  const { properties, required } = isDict(declared)
    ? readDeclared(declared, tool)
    : { properties: NONE, required: [] };
  const parameters = new Map<string, Parameter>();
  const schemas = new Map<string, Value>();
  for (const [key, declaration] of properties) {
    const dict = isDict(declaration) ? declaration : NONE;
    parameters.set(key, readParameter(dict));
    schemas.set(key, toJsonSchema(dict));
  }
  const schema = new Map<string, Value>([['name', name]]);
  const description = tool.get('description');
  if (typeof description === 'string') schema.set('description', description);
  if (isDict(declared)) {
    schema.set(
      'parameters',
      new Map<string, Value>([
        ['type', 'object'],
        ['properties', schemas],
        ['required', required],
      ]),
    );
  }
  return { name, parameters, required, schema };
}

const NONE: Dict = new Map();

function readDeclared(declared: Dict, tool: Dict): { properties: Dict; required: readonly string[] } {
  const properties = declared.get('properties');
  // A flat declaration may have a parameter of the name "type" or "properties"; only a schema has a text there.
  if (isDict(properties) && (typeof declared.get('type') === 'string' || !declared.has('type'))) {
    return { properties, required: names(declared.get('required')) };
  }
  if (typeof declared.get('type') === 'string' && !isDict(declared.get('type'))) {
    return { properties: NONE, required: [] };
  }
  const listed = tool.get('required');
  const required = isList(listed)
    ? names(listed)
    : [...declared].filter(([, each]) => isDict(each) && isNeeded(each)).map(([key]) => key);
  return { properties: declared, required };
}

function names(value: Value | undefined): string[] {
  return isList(value) ? value.filter((each) => typeof each === 'string') : [];
}

function isNeeded(parameter: Dict): boolean {
  const flag = parameter.get('required');
  if (typeof flag === 'boolean') return flag;
  const type = parameter.get('type');
  return !parameter.has('default') && !(typeof type === 'string' && /optional/i.test(type));
}

function readParameter(declaration: Dict): Parameter {
  const { type, itemType } = readType(declaration.get('type'));
  const items = declaration.get('items');
  const inner = isDict(items) ? readType(items.get('type')).type : itemType;
  const value = declaration.get('default');
  return { type, itemType: inner, ...(value === undefined ? {} : { default: value }) };
}

const TYPES: Readonly<Record<string, ParameterType>> = {
  string: 'string',
  str: 'string',
  char: 'string',
  integer: 'integer',
  int: 'integer',
  long: 'integer',
  short: 'integer',
  byte: 'integer',
  bigint: 'integer',
  float: 'float',
  number: 'float',
  double: 'float',
  boolean: 'boolean',
  bool: 'boolean',
  array: 'array',
  list: 'array',
  arraylist: 'array',
  set: 'array',
  sequence: 'array',
  tuple: 'tuple',
  dict: 'dict',
  object: 'dict',
  hashmap: 'dict',
  any: 'any',
};

/** `List[int]`, `list(str)`, `Optional[str]`, `int, optional`, `dict`. */
function readType(declared: Value | undefined): {
  type: ParameterType | undefined;
  itemType?: ParameterType | undefined;
} {
  if (typeof declared !== 'string') return { type: undefined };
  const text = declared
    .trim()
    .replace(/,\s*optional.*$/i, '')
    .slice(0, MAX_TYPE);
  const generic = /^(\w+)\s*[[(](.*)[\])]$/s.exec(text);
  const [, outer = text, inner = ''] = generic ?? [];
  const name = outer.toLowerCase();
  if (name === 'optional' && generic !== null) return readType(inner);
  const type = Object.hasOwn(TYPES, name) ? TYPES[name] : undefined;
  const isOfItems = type === 'array' || type === 'tuple';
  return {
    type,
    itemType: isOfItems && generic !== null ? readType(inner.split(',')[0]?.trim()).type : undefined,
  };
}

/** Longer than any type that people write; bounds the recursion. */
const MAX_TYPE = 200;

const JSON_TYPES: Readonly<Record<ParameterType, string | undefined>> = {
  string: 'string',
  integer: 'integer',
  float: 'number',
  boolean: 'boolean',
  array: 'array',
  tuple: 'array',
  dict: 'object',
  any: undefined,
};

/** A declaration with the type names of JSON Schema; fields that are no part of a type stay as they are. */
function toJsonSchema(declaration: Dict): Dict {
  const schema = new Map<string, Value>();
  for (const [key, value] of declaration) {
    if (key === 'type') {
      const { type, itemType } = readType(value);
      const name = type === undefined ? undefined : JSON_TYPES[type];
      if (name !== undefined) schema.set('type', name);
      const itemName = itemType === undefined ? undefined : JSON_TYPES[itemType];
      if (itemName !== undefined) schema.set('items', new Map([['type', itemName]]));
    } else if (key === 'items' && isDict(value)) schema.set(key, toJsonSchema(value));
    else if (key === 'properties' && isDict(value)) {
      schema.set(
        key,
        new Map([...value].map(([name, each]) => [name, isDict(each) ? toJsonSchema(each) : each])),
      );
    } else if (key !== 'required' || typeof value !== 'boolean') schema.set(key, value);
  }
  return schema;
}
