/**
 * The reference: what docgen makes of the doc comments, with the members that it does not see. Of a class and of a type
 * that comes from a Schema it prints the name alone; here the compiler says what they hold.
 */
import { execFile } from "node:child_process"
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { promisify } from "node:util"
import ts from "typescript"
import { project } from "./examples.ts"

/** What a public module exports under one name, as one kind of thing. */
export interface Declared {
  readonly module: string
  /** The title of its section in the reference. */
  readonly title: string
  /** What stands there as its signature; absent where docgen prints all there is. */
  readonly signature?: string | undefined
  readonly members: ReadonlyArray<Member>
}

export interface Member {
  readonly name: string
  /** It has a comment of its own, or that of its type names it in backticks, or names a type that documents it. */
  readonly isDocumented: boolean
}

export const publicModules: ReadonlyArray<string> = (await readdir(join(project, "src")))
  .filter((file) => /^[A-Z].*\.ts$/.test(file))
  .map((file) => basename(file, ".ts"))

/** Writes the reference into a directory, which is replaced. */
export const write = async (directory: string): Promise<void> => {
  const workspace = await mkdtemp(join(tmpdir(), "joblib-reference-"))
  try {
    await runDocgen(workspace)
    const pages = join(workspace, "docs", "modules")
    for (const module of publicModules) {
      const page = join(pages, `${module}.ts.md`)
      await writeFile(page, complete(await readFile(page, "utf8"), declared().filter((_) => _.module === module)))
    }
    const settings = join(workspace, "docs", "_config.yml")
    await writeFile(settings, (await readFile(settings, "utf8")).replace(/\n# Aux links[^]*/, ""))
    await rm(directory, { recursive: true, force: true })
    await cp(join(workspace, "docs"), directory, { recursive: true })
  } finally {
    await rm(workspace, { recursive: true, force: true })
  }
}

/** docgen wants a homepage in the package, which has none. */
const runDocgen = async (workspace: string) => {
  await cp(join(project, "src"), join(workspace, "src"), { recursive: true })
  await symlink(join(project, "node_modules"), join(workspace, "node_modules"))
  for (const file of ["docgen.json", "tsconfig.json"]) await cp(join(project, file), join(workspace, file))
  const { name } = JSON.parse(await readFile(join(project, "package.json"), "utf8"))
  await writeFile(join(workspace, "package.json"), JSON.stringify({ name, homepage: "", type: "module" }))
  await promisify(execFile)(join(project, "node_modules", ".bin", "docgen"), { cwd: workspace })
}

const complete = (page: string, declared: ReadonlyArray<Declared>): string =>
  declared.reduce((page, { signature, title }) => {
    if (signature === undefined) return page
    const [begin, end] = section(page, title)
    const text = page.slice(begin, end).replace(/^```ts\n[^]*?^```$/m, () => `\`\`\`ts\n${signature}\n\`\`\``)
    return page.slice(0, begin) + text + page.slice(end)
  }, page)

/** Where the section of this title begins and ends in a page. */
export const section = (page: string, title: string): readonly [begin: number, end: number] => {
  const begin = page.indexOf(`\n## ${title}\n`)
  if (begin === -1) throw new Error(`the reference has no section "${title}"`)
  const next = page.slice(begin + 4).search(/^##? /m)
  return [begin, next === -1 ? page.length : begin + 4 + next]
}

let found: ReadonlyArray<Declared> | undefined

/** Every type that a public module exports. */
export const declared = (): ReadonlyArray<Declared> => found ??= read()

const read = (): ReadonlyArray<Declared> => {
  const { config, error } = ts.readConfigFile(join(project, "tsconfig.json"), ts.sys.readFile)
  if (error !== undefined) throw new Error(ts.flattenDiagnosticMessageText(error.messageText, "\n"))
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, project)
  const files = publicModules.map((module) => join(project, "src", `${module}.ts`))
  return new Reader(ts.createProgram(files, options)).read(files)
}

type TypeDeclaration = ts.ClassDeclaration | ts.InterfaceDeclaration | ts.TypeAliasDeclaration

const isTypeDeclaration = (node: ts.Declaration): node is TypeDeclaration =>
  ts.isClassDeclaration(node) || ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)

class Reader {
  private readonly program: ts.Program
  private readonly checker: ts.TypeChecker
  /** By which name a type is known in the package. */
  private readonly names = new Map<ts.Type, string>()
  /** Types that have a name though the compiler takes them for others that have none: those of a Schema. */
  private readonly schemas: Array<ts.Type> = []

  constructor(program: ts.Program) {
    this.program = program
    this.checker = program.getTypeChecker()
  }

  read(files: ReadonlyArray<string>): ReadonlyArray<Declared> {
    const exported = files.flatMap((file) => {
      const source = this.program.getSourceFile(file)
      const module = source && this.checker.getSymbolAtLocation(source)
      if (module === undefined) throw new Error(`${file} is no module`)
      return this.checker.getExportsOfModule(module).map((symbol) => ({ module: basename(file, ".ts"), symbol }))
    })
    for (const { symbol } of exported) {
      for (const node of (symbol.declarations ?? []).filter(isTypeDeclaration)) {
        const type = this.checker.getDeclaredTypeOfSymbol(symbol)
        this.names.set(type, symbol.name)
        if (ts.isInterfaceDeclaration(node) && node.members.length === 0) this.schemas.push(type)
      }
    }
    return exported.flatMap(({ module, symbol }) =>
      (symbol.declarations ?? []).map((node) =>
        isTypeDeclaration(node) ? this.type(module, symbol, node) : this.value(module, symbol)
      )
    )
  }

  private value(module: string, symbol: ts.Symbol): Declared {
    // All fields of a Schema stand in the type of the same name, in a form that can be read.
    const type = this.checker.typeToString(this.checker.getTypeOfSymbol(symbol))
    const isStruct = type.startsWith("Schema.Struct<") || type.startsWith("Struct<")
    const encoded = `typeof ${symbol.name}.Encoded`
    return {
      module,
      title: symbol.name,
      members: [],
      signature: isStruct
        ? `export declare const ${symbol.name}: Schema.Schema<${symbol.name}, ${encoded}>`
        : undefined
    }
  }

  private type(module: string, symbol: ts.Symbol, node: TypeDeclaration): Declared {
    const properties = this.properties(this.checker.getDeclaredTypeOfSymbol(symbol))
    const isOwn = (property: ts.Symbol) => property.declarations?.some((own) => own.parent === node) ?? false
    const isInherited = ts.isInterfaceDeclaration(node) && node.members.length > 0
    const documented = this.documented(symbol)
    const members = properties.filter((property) => !isInherited || isOwn(property)).map(({ name }) => ({
      name,
      isDocumented: ["_tag", "message"].includes(name) || documented.has(name)
    }))
    const kind = ts.isClassDeclaration(node) ? "class" : ts.isInterfaceDeclaration(node) ? "interface" : "type alias"
    return { module, title: `${symbol.name} (${kind})`, members, signature: this.signature(node, symbol, properties) }
  }

  private signature(
    node: TypeDeclaration,
    symbol: ts.Symbol,
    properties: ReadonlyArray<ts.Symbol>
  ): string | undefined {
    if (ts.isClassDeclaration(node)) {
      const base = node.heritageClauses?.[0]?.types[0]
      // What a Schema's class is called with are its fields.
      const call = base !== undefined && ts.isCallExpression(base.expression) ? base.expression : undefined
      const isSchema = call?.getText().startsWith("Schema.") === true
      const named = `export declare class ${symbol.name} extends ${(isSchema ? call.expression : base)?.getText()}`
      return properties.length === 0 ? named : `${named} ${this.body(properties, node)}`
    }
    if (ts.isInterfaceDeclaration(node)) {
      return node.members.length > 0 ? undefined : `export interface ${symbol.name} ${this.body(properties, node)}`
    }
    // What it is made from is not shown elsewhere.
    if (!node.type.getText().includes("typeof ")) return undefined
    const text = properties.length > 0
      ? this.body(properties, node)
      : this.show(this.checker.getDeclaredTypeOfSymbol(symbol), node, true)
    const line = `export type ${symbol.name} = ${text}`
    return line.length <= 120 ? line : line.replaceAll(/ (= |\| )(?=")/g, (_, sign) => sign === "= " ? " =\n  | " : "\n  | ")
  }

  private body(properties: ReadonlyArray<ts.Symbol>, node: ts.Node): string {
    const lines = properties.flatMap((property) => {
      const isOptional = (property.flags & ts.SymbolFlags.Optional) !== 0
      const comment = this.comment(property).replaceAll("\n", "\n   * ")
      const type = this.checker.getTypeOfSymbol(property)
      const shown = this.show(isOptional ? this.checker.getNonNullableType(type) : type, node)
      return [
        ...comment === "" ? [] : [comment.includes("\n") ? `  /**\n   * ${comment}\n   */` : `  /** ${comment} */`],
        `  readonly ${property.name}${isOptional ? "?" : ""}: ${shown}`
      ]
    })
    return ["{", ...lines, "}"].join("\n")
  }

  /** The members that this package declares, in its order, after what tells the types of a union apart. */
  private properties(type: ts.Type): ReadonlyArray<ts.Symbol> {
    if (type.isUnion() || (type.flags & ts.TypeFlags.Object) === 0) return []
    const sources = join(project, "src")
    const place = (property: ts.Symbol) =>
      property.declarations?.find((node) => node.getSourceFile().fileName.startsWith(sources))?.pos ?? -1
    return this.checker.getPropertiesOfType(type)
      .filter((property) => property.name === "_tag" || place(property) >= 0)
      .sort((a, b) => place(a) - place(b))
  }

  /** What the comments of a type name: in backticks, or as members that have a comment of their own. */
  private documented(symbol: ts.Symbol, followed: ReadonlyArray<ts.Symbol> = []): ReadonlySet<string> {
    const named = Array.from(this.comment(symbol).matchAll(/`(\w+)[.`]/g), ([, name = ""]) => name)
    const commented = this.properties(this.checker.getDeclaredTypeOfSymbol(symbol)).filter((_) => this.comment(_) !== "")
    const [source] = symbol.declarations ?? []
    const module = source && this.checker.getSymbolAtLocation(source.getSourceFile())
    const others = named.flatMap((name) => {
      const other = module?.exports?.get(ts.escapeLeadingUnderscores(name))
      return other === undefined || other === symbol || followed.includes(other)
        ? []
        : Array.from(this.documented(other, [...followed, symbol]))
    })
    return new Set([...named, ...commented.map(({ name }) => name), ...others])
  }

  private comment(symbol: ts.Symbol): string {
    return ts.displayPartsToString(symbol.getDocumentationComment(this.checker)).trim()
  }

  private nameOf(type: ts.Type): string | undefined {
    const isSame = (other: ts.Type) =>
      this.checker.isTypeAssignableTo(type, other) && this.checker.isTypeAssignableTo(other, type)
    const isObject = (type.flags & ts.TypeFlags.Object) !== 0 && this.checker.getPropertiesOfType(type).length > 0
    return this.names.get(type) ?? (isObject ? this.names.get(this.schemas.find(isSame) ?? type) : undefined)
  }

  private show(type: ts.Type, node: ts.Node, isDefinition = false): string {
    const name = isDefinition ? undefined : this.nameOf(type)
    if (name !== undefined) return name
    if (type.aliasSymbol !== undefined && type.aliasTypeArguments !== undefined) {
      const args = type.aliasTypeArguments.map((type) => this.show(type, node)).join(", ")
      return `${qualified(type.aliasSymbol)}<${args}>`
    }
    if (type.isUnion() && (type.flags & ts.TypeFlags.Boolean) === 0) {
      return type.types.map((type) => this.show(type, node)).join(" | ").replace("false | true", "boolean")
    }
    const symbol = type.aliasSymbol ?? type.getSymbol()
    if (symbol !== undefined && symbol.name !== "__type" && qualified(symbol) !== symbol.name) return qualified(symbol)
    const flags = ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.UseAliasDefinedOutsideCurrentScope |
      (isDefinition ? ts.TypeFormatFlags.InTypeAlias : 0)
    return this.checker.typeToString(type, node, flags).replaceAll("<ArrayBufferLike>", "")
  }
}

/** `Option.Option`: as whoever imports the modules of Effect one by one calls it. */
const qualified = (symbol: ts.Symbol): string => {
  const file = symbol.declarations?.[0]?.getSourceFile().fileName ?? ""
  return file.includes("/node_modules/effect/") ? `${basename(file, ".d.ts")}.${symbol.name}` : symbol.name
}
