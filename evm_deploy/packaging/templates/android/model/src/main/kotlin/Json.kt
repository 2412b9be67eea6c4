package @PACKAGE@

private const val DEEPEST = 64

/** A text that is not what it should be. */
class FormatException(message: String) : IllegalArgumentException(message)

/** The value of a JSON text: Map, List, String, Long, Double, Boolean or null. Throws FormatException. */
fun parseJson(text: String): Any? = JsonReader(text).document()

/** The text of such a value; numbers may be of any type. Throws FormatException for one that is not finite. */
fun writeJson(value: Any?): String = StringBuilder().also { write(value, it) }.toString()

private class JsonReader(private val text: String) {
    private var at = 0

    fun document(): Any? {
        val value = value(0)
        if (next() != null) fail("more text")
        return value
    }

    private fun value(depth: Int): Any? {
        if (depth > DEEPEST) fail("too many levels")
        return when (next()) {
            '{' -> fields(depth)
            '[' -> items(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun fields(depth: Int): Map<String, Any?> {
        val found = LinkedHashMap<String, Any?>()
        list('}') {
            if (next() != '"') fail("no name")
            val name = string()
            expect(':')
            if (name in found) fail("a name twice")
            found[name] = value(depth + 1)
        }
        return found
    }

    private fun items(depth: Int): List<Any?> {
        val found = ArrayList<Any?>()
        list(']') { found.add(value(depth + 1)) }
        return found
    }

    private fun list(end: Char, item: () -> Unit) {
        at++
        if (next() == end) {
            at++
            return
        }
        while (true) {
            item()
            when (next()) {
                ',' -> at++
                end -> { at++; return }
                else -> fail("no comma")
            }
        }
    }

    private fun string(): String {
        val found = StringBuilder()
        at++
        while (true) {
            val char = text.getOrNull(at++) ?: fail("a string without an end")
            when {
                char == '"' -> return found.toString()
                char == '\\' -> found.append(escape())
                char < ' ' -> fail("a control character in a string")
                else -> found.append(char)
            }
        }
    }

    private fun escape(): Char {
        val char = text.getOrNull(at++) ?: fail("a string without an end")
        val plain = "\"\\/bfnrt".indexOf(char)
        if (plain >= 0) return "\"\\/\b\u000c\n\r\t"[plain]
        val digits = if (char == 'u' && at + 4 <= text.length) text.substring(at, at + 4) else ""
        if (!HEX.matches(digits)) fail("an unknown escape")
        at += 4
        return digits.toInt(16).toChar()
    }

    private fun number(): Any {
        val start = at
        while (at < text.length && (text[at].let { it in '0'..'9' || it in "+-.eE" })) at++
        val digits = text.substring(start, at)
        if (!NUMBER.matches(digits)) fail("no value")
        return digits.toLongOrNull() ?: digits.toDouble().takeIf { it.isFinite() } ?: fail("a number out of range")
    }

    private fun <T> word(word: String, value: T): T {
        if (!text.startsWith(word, at)) fail("no value")
        at += word.length
        return value
    }

    private fun expect(char: Char) {
        if (next() != char) fail("no $char")
        at++
    }

    private fun next(): Char? {
        while (at < text.length && text[at] in " \t\r\n") at++
        return text.getOrNull(at)
    }

    private fun fail(what: String): Nothing = throw FormatException("not JSON: $what at character $at")

    private companion object {
        val HEX = Regex("[0-9a-fA-F]{4}")
        val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
    }
}

private fun write(value: Any?, out: StringBuilder) {
    when (value) {
        null, is Boolean -> out.append(value)
        is Number -> if (value.toDouble().isFinite()) out.append(value) else throw FormatException("$value has no JSON")
        is Map<*, *> -> joined(value.entries, '{', '}', out) { (name, item) ->
            quote(name.toString(), out)
            out.append(':')
            write(item, out)
        }
        is Iterable<*> -> joined(value, '[', ']', out) { write(it, out) }
        else -> quote(value.toString(), out)
    }
}

private fun <T> joined(items: Iterable<T>, start: Char, end: Char, out: StringBuilder, each: (T) -> Unit) {
    out.append(start)
    items.forEachIndexed { index, item ->
        if (index > 0) out.append(',')
        each(item)
    }
    out.append(end)
}

private fun quote(text: String, out: StringBuilder) {
    out.append('"')
    for (char in text) {
        when {
            char == '"' || char == '\\' -> out.append('\\').append(char)
            char < ' ' || char.isSurrogate() -> out.append("\\u").append(char.code.toString(16).padStart(4, '0'))
            else -> out.append(char)
        }
    }
    out.append('"')
}

/** An object of a JSON text whose fields have known types. [what] is what an error calls it. */
class Fields(value: Any?, private val what: String) {
    private val map = value as? Map<*, *> ?: throw FormatException("$what is not an object")

    val names: Set<String> get() = map.keys.map { it.toString() }.toSet()

    fun has(name: String): Boolean = map[name] != null

    fun string(name: String): String = of(name)

    fun stringOrNull(name: String): String? = if (has(name)) string(name) else null

    fun boolean(name: String): Boolean = of(name)

    fun number(name: String): Double = of<Number>(name).toDouble()

    fun integer(name: String): Long = of(name)

    fun numbers(name: String, count: Int): List<Double> {
        val numbers = of<List<*>>(name).map { (it as? Number ?: fail(name)).toDouble() }
        return if (numbers.size == count) numbers else fail(name)
    }

    fun fields(name: String): Fields = Fields(map[name], "$name of $what")

    fun integers(name: String): List<Long> = of<List<*>>(name).map { it as? Long ?: fail(name) }

    fun texts(name: String): List<String> = of<List<*>>(name).map { it as? String ?: fail(name) }

    fun list(name: String): List<Fields> = of<List<*>>(name).map { Fields(it, "$name of $what") }

    fun strings(name: String): Map<String, String> =
        of<Map<*, *>>(name).entries.associate { (key, value) -> key as String to (value as? String ?: fail(name)) }

    private inline fun <reified T> of(name: String): T = map[name] as? T ?: fail(name)

    private fun fail(name: String): Nothing = throw FormatException("$what has no valid $name")
}
