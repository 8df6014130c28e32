/** What goes wrong in a template. The caller knows which template it is. */

/** Any error of a template: syntax, undefined values, wrong types. */
export class TemplateError extends Error {}

/** The template itself refused its input: it called raise_exception. */
export class RaisedError extends TemplateError {}
