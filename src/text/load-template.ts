/**
 * The chat template of a model directory, from where transformers 5 reads it: chat_template.jinja and the files of
 * additional_chat_templates/, else `chat_template` in tokenizer_config.json, one text or several with names.
 *
 * Of several, the one named "tool_use" is for conversations with tools, "default" for the others.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { R3Error } from '../lib/errors.ts';
import { isObject, showValue } from '../lib/json.ts';
import { readJson, readSpecialTokens, readText } from './model-files.ts';
import { TemplateFailure, makeChatTemplate, type ChatTemplate } from './template.ts';

const MORE = 'additional_chat_templates';

/** Throws R3Error `bad-template` when there is none or one cannot be parsed, `bad-file`. */
export function loadChatTemplate(directory: string): ChatTemplate {
  const sources = readSources(directory);
  const specials = readSpecialTokens(directory);
  const templates = new Map<string, ChatTemplate>();
  for (const name of ['default', 'tool_use']) {
    const found = sources.get(name);
    if (found === undefined) continue;
    const { path, source } = found;
    if (source.trim() === '')
      throw badTemplate(`${path}: chat template: expected a Jinja template, got an empty text`);
    templates.set(name, makeChatTemplate(source, `${path}: chat template`, specials));
  }
  const standard = templates.get('default');
  const forTools = templates.get('tool_use') ?? standard;
  const [first] = sources.values();
  const shown = standard ?? forTools;
  if (shown === undefined) {
    const names = [...sources.keys()].join(', ') || 'none';
    throw badTemplate(
      `${first?.path ?? directory}: chat_template: expected one that is named "default", got ${names}`,
    );
  }
  return {
    name: shown.name,
    render: (input) => {
      const template = (input.tools ?? null) === null ? standard : forTools;
      if (template) return template.render(input);
      throw new TemplateFailure(
        shown.name,
        'template',
        'no tools',
        'tools, because there is only a template for them',
      );
    },
  };
}

interface Source {
  path: string;
  source: string;
}

/** The templates by name; files go before the configuration. */
function readSources(directory: string): Map<string, Source> {
  const sources = new Map<string, Source>();
  const add = (name: string, folder: string, file: string): void => {
    const source = readText(folder, file);
    if (source !== undefined) sources.set(name, { path: `${folder}/${file}`, source });
  };
  add('default', directory, 'chat_template.jinja');
  const more = join(directory, MORE);
  const files = existsSync(more) ? readdirSync(more).filter((file) => file.endsWith('.jinja')) : [];
  for (const file of files.toSorted()) add(file.slice(0, -'.jinja'.length), more, file);
  if (sources.size > 0) return sources;

  const path = `${directory}/tokenizer_config.json`;
  const value = readJson(directory, 'tokenizer_config.json')?.['chat_template'] ?? undefined;
  if (typeof value === 'string') return new Map([['default', { path, source: value }]]);
  if (Array.isArray(value)) {
    for (const each of value) {
      if (isObject(each) && typeof each['name'] === 'string' && typeof each['template'] === 'string') {
        sources.set(each['name'], { path, source: each['template'] });
      }
    }
    return sources;
  }
  if (value !== undefined) {
    throw badTemplate(
      `${path}: chat_template: expected a text or a list of named ones, got ${showValue(value)}`,
    );
  }
  throw badTemplate(
    `chat template: expected chat_template.jinja, or chat_template in tokenizer_config.json, in ${directory}, got ` +
      'neither. Base models have none: take the instruct model, or put a template into chat_template.jinja.',
  );
}

function badTemplate(why: string): R3Error {
  return new R3Error('text', 'bad-template', why);
}
