import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Executors;

/**
 * A stand-in for the Java matching service: {@code java MatchingService.java --port 8080}, with Java 17 and nothing else.
 *
 * <p>It speaks the endpoints of contract v21, pairs people across departments, honours {@code Idempotency-Key}, and
 * can be told to misbehave, by options or over HTTP ({@code /__switches}, {@code /__calls}): see README.md beside it.
 * {@code connectbot/testing/matching_service.py} is the same in Python; one suite of contract tests holds both.
 */
public final class MatchingService {

    public static void main(String[] arguments) {
        try {
            start(Options.read(arguments));
        } catch (NotUnderstood | IndexOutOfBoundsException | NumberFormatException error) {
            System.err.println("Options that cannot be used (README.md lists them): " + error.getMessage());
            System.exit(2);
        } catch (IOException error) {
            System.err.println("The address cannot be listened on, choose another --port: " + error.getMessage());
            System.exit(1);
        }
    }

    private static void start(Options options) throws IOException {
        // Without it, the body of an answer waits some 40 ms for the caller's delayed ACK of the head.
        System.setProperty("sun.net.httpserver.nodelay", "true");
        // The JDK keeps 200 idle connections and closes the others, some of them under a caller's next request.
        System.setProperty("sun.net.httpserver.maxIdleConnections", "10000");

        HttpServer server = HttpServer.create(new InetSocketAddress(options.host, options.port), 1024);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", new Service(options.switches)::serve);
        server.start();
        System.out.println("matching service on http://" + options.host + ":" + server.getAddress().getPort());
    }

    /** The request cannot be used; the message says why. Answered as HTTP 400. */
    static final class NotUnderstood extends RuntimeException {
        NotUnderstood(String message) {
            super(message);
        }
    }

    // --- switches ------------------------------------------------------------------------------------------------

    record Options(String host, int port, Switches switches) {

        static Options read(String[] arguments) {
            String host = "127.0.0.1";
            int port = 8080;
            Switches switches = Switches.DEFAULT;
            List<String> words = new ArrayList<>();
            for (String argument : arguments) {
                words.addAll(argument.startsWith("--") ? Arrays.asList(argument.split("=", 2)) : List.of(argument));
            }
            while (!words.isEmpty()) {
                String name = words.remove(0);
                if (name.equals("--host")) {
                    host = words.remove(0);
                } else if (name.equals("--port")) {
                    port = Integer.parseInt(words.remove(0));
                } else {
                    switches = switches.withOption(name, words);
                }
            }
            return new Options(host, port, switches);
        }
    }

    /** How the stand-in behaves: name and value. What each means is in README.md. */
    record Switches(Map<String, Object> values) {

        static final Switches DEFAULT = new Switches(defaults());

        private static Map<String, Object> defaults() {
            Map<String, Object> values = new LinkedHashMap<>();
            values.put("latency_ms", 0L);
            values.put("status", 0L);
            values.put("error_rate", 0.0);
            values.put("retry_after", "");
            values.put("hang", false);
            values.put("half", false);
            values.put("wrong_json", false);
            values.put("error", "");
            values.put("pair_shape", "ids");
            values.put("list_unmatched", true);
            values.put("degraded", false);
            values.put("token", "");
            return values;
        }

        /** These with one changed by {@code --name value}, {@code --name} or {@code --no-name}. */
        Switches withOption(String option, List<String> words) {
            boolean negated = option.startsWith("--no-");
            String name = option.replaceFirst("^--(no-)?", "").replace('-', '_');
            Object usual = DEFAULT.values.get(name);
            if (!option.startsWith("--") || usual == null || negated && !(usual instanceof Boolean)) {
                throw new NotUnderstood("there is no option " + option);
            }
            if (usual instanceof Boolean) {
                return changed(Map.of(name, !negated));
            }
            String word = words.remove(0);
            return changed(Map.of(name, usual instanceof String ? word : new Json(word).read()));
        }

        Switches changed(Map<?, ?> changes) {
            Map<String, Object> result = new LinkedHashMap<>(values);
            changes.forEach((name, value) -> result.put((String) name, fitting((String) name, value)));
            return new Switches(result);
        }

        private static Object fitting(String name, Object value) {
            Object usual = DEFAULT.values.get(name);
            if (usual == null) {
                throw new NotUnderstood("there is no switch " + name);
            }
            Object wanted = usual instanceof Double && value instanceof Long whole ? Double.valueOf(whole) : value;
            boolean fits = wanted != null && wanted.getClass() == usual.getClass();
            if (!fits || name.equals("pair_shape") && !Set.of("ids", "objects").contains(wanted)) {
                throw new NotUnderstood(name + " is like " + Json.write(usual));
            }
            return wanted;
        }

        Map<String, Object> shown() {
            Map<String, Object> shown = new LinkedHashMap<>(values);
            shown.put("token", text("token").isEmpty() ? "" : "***");
            return shown;
        }

        String text(String name) {
            return (String) values.get(name);
        }

        boolean on(String name) {
            return (Boolean) values.get(name);
        }

        int number(String name) {
            return ((Long) values.get(name)).intValue();
        }

        /** Whether the call of that number, counted from 1, is to be answered with a status that is not 200. */
        boolean fail(long number) {
            double rate = (Double) values.get("error_rate");
            return rate == 0 ? number("status") != 0 : (long) (number * rate) > (long) ((number - 1) * rate);
        }
    }

    // --- calls -----------------------------------------------------------------------------------------------------

    /** What came under one Idempotency-Key. {@code answer} is the result given, to be given again. */
    static final class Call {
        final String key;
        final String path;
        final Object requestId;
        final Map<String, Object> headers;
        final double firstAt = System.currentTimeMillis() / 1000.0;
        long count;
        volatile byte[] answer;

        Call(String key, String path, Object requestId, Map<String, Object> headers) {
            this.key = key;
            this.path = path;
            this.requestId = requestId;
            this.headers = headers;
        }

        Map<String, Object> shown() {
            return object("key", key, "count", count, "path", path, "request_id", requestId, "headers", headers,
                    "first_at", firstAt, "answered", answer != null);
        }
    }

    /** The calls that came, oldest first; beyond the limit, the oldest are forgotten. */
    static final class Calls {
        private static final int REMEMBERED = 100_000;
        private final Map<String, Call> byKey = new LinkedHashMap<>() {
            @Override
            protected boolean removeEldestEntry(Map.Entry<String, Call> eldest) {
                return size() > REMEMBERED;
            }
        };
        private long requests;
        private long repeated;
        private long inFlight;
        private long mostInFlight;

        synchronized void forget() {
            byKey.clear();
            requests = repeated = 0;
            mostInFlight = inFlight;
        }

        /** Notes a call that has come, and answers its number since the beginning. */
        synchronized long begin(Call call) {
            requests++;
            mostInFlight = Math.max(mostInFlight, ++inFlight);
            Call known = byKey.computeIfAbsent(call.key, key -> call);
            if (++known.count > 1 && !call.key.isEmpty()) {
                repeated++;
            }
            return requests;
        }

        /** What is known of the call's key. Calls without a key are counted together, and share nothing else. */
        synchronized Call known(Call call) {
            return call.key.isEmpty() ? call : byKey.getOrDefault(call.key, call);
        }

        synchronized void end() {
            inFlight--;
        }

        synchronized Map<String, Object> shown() {
            return object("requests", requests, "repeated", repeated, "in_flight", inFlight, "most_in_flight",
                    mostInFlight, "calls", byKey.values().stream().map(Call::shown).toList());
        }
    }

    // --- pairing ---------------------------------------------------------------------------------------------------

    record Person(long id, String department, Set<Object> excluded, Set<Object> interests) {

        static Person read(Object given) {
            if (given instanceof Map<?, ?> fields && fields.get("id") instanceof Long id) {
                Object department = fields.get("department");
                return new Person(id, department == null ? "" : department.toString(),
                        setOf(fields.get("excluded_partners")), setOf(fields.get("interests")));
            }
            throw new NotUnderstood("an employee is an object with an id");
        }

        private static Set<Object> setOf(Object given) {
            if (given == null) {
                return Set.of();
            }
            if (given instanceof List<?> list) {
                return new HashSet<>(list);
            }
            throw new NotUnderstood("excluded_partners and interests are lists");
        }

        Person anywhere() {
            return new Person(id, "", excluded, interests);
        }

        boolean mayMeet(Person other) {
            return !excluded.contains(other.id) && !other.excluded.contains(id);
        }

        Map<String, Object> shown() {
            return object("id", id, "department", department);
        }
    }

    record Paired(List<List<Person>> pairs, List<Person> unmatched) {}

    /**
     * The same pairs for the same people, whatever their order. The next to be paired is always from the department
     * with most people left, and gets the first allowed partner of the largest other one.
     */
    static Paired pair(Collection<Person> people, Collection<Person> aside) {
        Map<Long, Person> byId = new TreeMap<>();
        people.forEach(person -> byId.put(person.id, person));
        Map<String, List<Person>> waiting = new HashMap<>();
        byId.values().forEach(person -> waiting.computeIfAbsent(person.department, key -> new ArrayList<>()).add(person));

        List<List<Person>> pairs = new ArrayList<>();
        List<Person> left = new ArrayList<>(aside);
        while (!waiting.isEmpty()) {
            List<String> departments = new ArrayList<>(waiting.keySet());
            departments.sort(Comparator.comparing((String department) -> -waiting.get(department).size())
                    .thenComparing(Comparator.naturalOrder()));
            Person person = waiting.get(departments.get(0)).remove(0);
            Collections.rotate(departments, -1);
            Person partner = departments.stream().flatMap(department -> waiting.get(department).stream())
                    .filter(person::mayMeet).findFirst().orElse(null);
            if (partner == null) {
                left.add(person);
            } else {
                waiting.get(partner.department).remove(partner);
                pairs.add(List.of(person, partner));
            }
            waiting.values().removeIf(List::isEmpty);
        }
        left.sort(Comparator.comparing(Person::id));
        return new Paired(pairs, left);
    }

    // --- the service -----------------------------------------------------------------------------------------------

    static final class Service {
        private static final String SECRET_COFFEE = "/api/v1/matching/match/secret-coffee";
        private static final String FROM_API = "/api/v1/matching/match/secret-coffee/from-api";
        private static final String SIMPLE = "/api/matching/coffee/simple";
        private static final String INTEREST = "/api/matching/coffee/interest";
        private static final Map<String, String> ALGORITHMS = Map.of(SECRET_COFFEE, "cross_department", FROM_API,
                "cross_department", SIMPLE, "simple", INTEREST, "interest");
        private static final List<Long> MADE_UP_PEOPLE = List.of(1L, 2L, 3L, 4L, 5L, 6L);
        private static final List<String> DEPARTMENTS = List.of("Engineering", "Finance", "Sales");

        private final Calls calls = new Calls();
        private final Switches atStart;
        private Switches switches;

        Service(Switches switches) {
            this.atStart = switches;
            this.switches = switches;
        }

        void serve(HttpExchange exchange) throws IOException {
            try (exchange) {
                byte[] body = exchange.getRequestBody().readAllBytes();
                try {
                    route(exchange, body);
                } catch (NotUnderstood error) {
                    answer(exchange, 400, failure("bad_request: " + error.getMessage(), null));
                }
            }
        }

        private void route(HttpExchange exchange, byte[] body) throws IOException {
            String path = exchange.getRequestURI().getPath();
            String called = exchange.getRequestMethod() + " "
                    + (ALGORITHMS.containsKey(path) ? "match" : path);
            switch (called) {
                case "GET /api/v1/matching/health" -> health(exchange);
                case "POST match" -> match(exchange, path, body);
                case "GET /__switches" -> answer(exchange, 200, now().shown());
                case "PUT /__switches" -> answer(exchange, 200, apply(now().changed(asObject(read(body)))).shown());
                case "DELETE /__switches" -> answer(exchange, 200, apply(atStart).shown());
                case "GET /__calls" -> answer(exchange, 200, calls.shown());
                case "DELETE /__calls" -> {
                    calls.forget();
                    answer(exchange, 200, calls.shown());
                }
                default -> refuse(exchange, path);
            }
        }

        private void refuse(HttpExchange exchange, String path) throws IOException {
            boolean known = ALGORITHMS.containsKey(path)
                    || Set.of("/api/v1/matching/health", "/__switches", "/__calls").contains(path);
            answer(exchange, known ? 405 : 404, failure(known ? "method_not_allowed" : "not_found", null));
        }

        private synchronized Switches now() {
            return switches;
        }

        private synchronized Switches apply(Switches wanted) {
            switches = wanted;
            notifyAll();
            return wanted;
        }

        /** Lets the time of an answer pass. Null: hang up without an answer. */
        private Switches pause() {
            Switches obeyed = now();
            try {
                Thread.sleep(obeyed.number("latency_ms"));
                if (!obeyed.on("hang")) {
                    return obeyed;
                }
                synchronized (this) {
                    while (switches.on("hang")) {
                        wait();
                    }
                }
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
            return null;
        }

        private void health(HttpExchange exchange) throws IOException {
            Switches obeyed = pause();
            if (obeyed != null) {
                boolean well = !obeyed.on("degraded") && obeyed.number("status") < 500;
                answer(exchange, well ? 200 : 503, object("status", well ? "OK" : "DEGRADED"));
            }
        }

        private void match(HttpExchange exchange, String path, byte[] body) throws IOException {
            Headers headers = exchange.getRequestHeaders();
            String token = now().text("token");
            if (!token.isEmpty() && !("Service " + token).equals(headers.getFirst("Authorization"))) {
                answer(exchange, 401, failure("unauthorized", null));
                return;
            }
            Call call = call(headers, path, body);
            long number = calls.begin(call);
            Reply reply;
            try {
                reply = reply(exchange, call, number, body);
            } finally {
                calls.end();  // before the answer leaves: its caller's next call must not be counted beside it
            }
            if (reply != null) {
                send(exchange, reply);
            }
        }

        private Call call(Headers headers, String path, byte[] body) {
            Map<String, Object> interesting = new LinkedHashMap<>();
            for (String name : List.of("Content-Type", "X-Request-ID", "traceparent")) {
                if (headers.containsKey(name)) {
                    interesting.put(name.toLowerCase(Locale.ROOT), headers.getFirst(name));
                }
            }
            if (headers.containsKey("Authorization")) {
                interesting.put("authorization", headers.getFirst("Authorization").split(" ", 2)[0]);
            }
            String key = headers.getFirst("Idempotency-Key");
            Object requestId = requestId(body);
            return new Call(key == null ? "" : key, path,
                    requestId == null ? headers.getFirst("X-Request-ID") : requestId, interesting);
        }

        /** Null: hang up without an answer. */
        private Reply reply(HttpExchange exchange, Call call, long number, byte[] body) {
            Switches obeyed = pause();
            if (obeyed == null) {
                return null;
            }
            if (obeyed.fail(number)) {
                if (!obeyed.text("retry_after").isEmpty()) {
                    exchange.getResponseHeaders().set("Retry-After", obeyed.text("retry_after"));
                }
                int status = obeyed.number("status");
                return new Reply(status == 0 ? 500 : status, bytes(failure("switched", call.requestId)), false);
            }
            if (!obeyed.text("error").isEmpty()) {
                return new Reply(200, bytes(failure(obeyed.text("error"), call.requestId)), false);
            }
            if (obeyed.on("wrong_json")) {
                return new Reply(200, "<html>this is no JSON</html>".getBytes(StandardCharsets.UTF_8), false);
            }
            Call known = calls.known(call);
            byte[] answer = known.answer;
            if (answer == null) {
                answer = bytes(result(exchange, call, read(body), obeyed));
                known.answer = answer;
            }
            return new Reply(200, answer, obeyed.on("half"));
        }

        private Map<String, Object> result(HttpExchange exchange, Call call, Object asked, Switches obeyed) {
            Paired paired = switch (call.path) {
                case SECRET_COFFEE -> pair(people(asObject(asked).get("employees")), List.of());
                case FROM_API -> pair(fetched(asObject(asked)), List.of());
                case SIMPLE -> pair(people(asked).stream().map(Person::anywhere).toList(), List.of());
                default -> pairInterested(people(asked), parameter(exchange, "interest"));
            };
            Map<String, Object> result = object("requestId", call.requestId, "status", "ok", "error", null,
                    "algorithm", ALGORITHMS.get(call.path), "pairs",
                    paired.pairs.stream().map(pair -> pairShown(pair, obeyed.text("pair_shape"))).toList(),
                    "meta", object("stand_in", "java"));
            if (obeyed.on("list_unmatched")) {
                result.put("unmatched_employees", paired.unmatched.stream().map(Person::id).toList());
            }
            return result;
        }

        private static Paired pairInterested(List<Person> people, String interest) {
            if (interest.isEmpty()) {
                throw new NotUnderstood("the parameter interest is needed");
            }
            return pair(people.stream().filter(person -> person.interests.contains(interest)).toList(),
                    people.stream().filter(person -> !person.interests.contains(interest)).toList());
        }

        private static List<Person> people(Object given) {
            if (given instanceof List<?> list && !list.isEmpty()) {
                return list.stream().map(Person::read).toList();
            }
            throw new NotUnderstood("employees are a list that is not empty");
        }

        private static List<Person> fetched(Map<?, ?> asked) {
            Object ids = MADE_UP_PEOPLE;
            for (String name : List.of("users", "employeeIds")) {
                Object given = asked.get(name);
                ids = given == null || given.equals(List.of()) ? ids : given;
            }
            if (!(ids instanceof List<?> list) || !list.stream().allMatch(Long.class::isInstance)) {
                throw new NotUnderstood("employeeIds is a list of ids");
            }
            return list.stream().map(Long.class::cast)
                    .map(id -> new Person(id, DEPARTMENTS.get((int) Math.floorMod(id, 3L)), Set.of(), Set.of())).toList();
        }

        private static Map<String, Object> pairShown(List<Person> pair, String shape) {
            return shape.equals("ids")
                    ? object("employee1_id", pair.get(0).id, "employee2_id", pair.get(1).id)
                    : object("employee1", pair.get(0).shown(), "employee2", pair.get(1).shown());
        }
    }

    static Map<String, Object> failure(String reason, Object requestId) {
        return object("requestId", requestId, "status", "error", "error", reason, "algorithm", null, "pairs", List.of(),
                "meta", object("stand_in", "java"));
    }

    // --- HTTP and JSON ---------------------------------------------------------------------------------------------

    /** An answer. {@code half}: only half of it is to leave. */
    record Reply(int status, byte[] body, boolean half) {}

    static void answer(HttpExchange exchange, int status, Object answer) throws IOException {
        send(exchange, new Reply(status, bytes(answer), false));
    }

    static void send(HttpExchange exchange, Reply reply) throws IOException {
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(reply.status, reply.body.length);
        OutputStream stream = exchange.getResponseBody();
        stream.write(reply.body, 0, reply.half ? reply.body.length / 2 : reply.body.length);
        stream.flush();
    }

    static byte[] bytes(Object value) {
        return Json.write(value).getBytes(StandardCharsets.UTF_8);
    }

    static String parameter(HttpExchange exchange, String name) {
        String query = exchange.getRequestURI().getRawQuery();
        for (String part : query == null ? new String[0] : query.split("&")) {
            String[] pair = part.split("=", 2);
            if (pair[0].equals(name) && pair.length == 2) {
                return URLDecoder.decode(pair[1], StandardCharsets.UTF_8);
            }
        }
        return "";
    }

    static Object read(byte[] body) {
        return new Json(new String(body, StandardCharsets.UTF_8)).read();
    }

    static Object requestId(byte[] body) {
        try {
            return read(body) instanceof Map<?, ?> asked ? asked.get("requestId") : null;
        } catch (NotUnderstood error) {
            return null;
        }
    }

    static Map<?, ?> asObject(Object value) {
        if (value instanceof Map<?, ?> object) {
            return object;
        }
        throw new NotUnderstood("the body is an object");
    }

    /** An object of JSON: a name and a value, a name and a value, ... */
    static Map<String, Object> object(Object... namesAndValues) {
        Map<String, Object> object = new LinkedHashMap<>();
        for (int at = 0; at < namesAndValues.length; at += 2) {
            object.put((String) namesAndValues[at], namesAndValues[at + 1]);
        }
        return object;
    }

    /** Reads and writes JSON as Map, List, String, Long, Double, Boolean and null. */
    static final class Json {
        private static final int DEEPEST = 500;
        private final String text;
        private int at;
        private int depth;

        Json(String text) {
            this.text = text;
        }

        Object read() {
            Object value = value();
            if (peek() != 0) {
                throw wrong();
            }
            return value;
        }

        private Object value() {
            if (++depth > DEEPEST) {
                throw wrong();
            }
            Object value = switch (peek()) {
                case '{' -> object();
                case '[' -> list();
                case '"' -> string();
                default -> scalar();
            };
            depth--;
            return value;
        }

        private Map<String, Object> object() {
            Map<String, Object> object = new LinkedHashMap<>();
            at++;
            if (!found('}')) {
                do {
                    if (peek() != '"') {
                        throw wrong();
                    }
                    String name = string();
                    expect(':');
                    object.put(name, value());
                } while (found(','));
                expect('}');
            }
            return object;
        }

        private List<Object> list() {
            List<Object> list = new ArrayList<>();
            at++;
            if (!found(']')) {
                do {
                    list.add(value());
                } while (found(','));
                expect(']');
            }
            return list;
        }

        private String string() {
            StringBuilder string = new StringBuilder();
            at++;
            while (next() != '"') {
                char letter = text.charAt(at++);
                string.append(letter == '\\' ? escaped() : letter);
            }
            at++;
            return string.toString();
        }

        private char escaped() {
            char letter = next();
            at++;
            if (letter == 'u') {
                try {
                    at += 4;
                    return (char) Integer.parseInt(text.substring(at - 4, at), 16);
                } catch (RuntimeException error) {
                    throw wrong();
                }
            }
            int index = "\"\\/bfnrt".indexOf(letter);
            if (index < 0) {
                throw wrong();
            }
            return "\"\\/\b\f\n\r\t".charAt(index);
        }

        private Object scalar() {
            int start = at;
            while (at < text.length() && ",]}: \t\r\n".indexOf(text.charAt(at)) < 0) {
                at++;
            }
            String word = text.substring(start, at);
            try {
                return switch (word) {
                    case "true" -> true;
                    case "false" -> false;
                    case "null" -> null;
                    default -> word.matches("-?\\d+") ? (Object) Long.valueOf(word) : (Object) Double.valueOf(word);
                };
            } catch (NumberFormatException error) {
                throw wrong();
            }
        }

        /** The next letter that is not white space; 0 at the end. */
        private char peek() {
            while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
                at++;
            }
            return at < text.length() ? text.charAt(at) : 0;
        }

        private char next() {
            if (at >= text.length()) {
                throw wrong();
            }
            return text.charAt(at);
        }

        private boolean found(char letter) {
            boolean found = peek() == letter;
            at += found ? 1 : 0;
            return found;
        }

        private void expect(char letter) {
            if (!found(letter)) {
                throw wrong();
            }
        }

        private static NotUnderstood wrong() {
            return new NotUnderstood("the body is not JSON");
        }

        static String write(Object value) {
            StringBuilder text = new StringBuilder();
            write(value, text);
            return text.toString();
        }

        private static void write(Object value, StringBuilder text) {
            if (value instanceof Map<?, ?> object) {
                String separator = "{";
                for (Map.Entry<?, ?> entry : object.entrySet()) {
                    quote(entry.getKey().toString(), text.append(separator));
                    write(entry.getValue(), text.append(':'));
                    separator = ",";
                }
                text.append(object.isEmpty() ? "{}" : "}");
            } else if (value instanceof Collection<?> list) {
                String separator = "[";
                for (Object item : list) {
                    write(item, text.append(separator));
                    separator = ",";
                }
                text.append(list.isEmpty() ? "[]" : "]");
            } else if (value instanceof String string) {
                quote(string, text);
            } else {
                text.append(value);
            }
        }

        private static void quote(String string, StringBuilder text) {
            text.append('"');
            for (char letter : string.toCharArray()) {
                if (letter == '"' || letter == '\\') {
                    text.append('\\').append(letter);
                } else if (letter < ' ') {
                    text.append(String.format("\\u%04x", (int) letter));
                } else {
                    text.append(letter);
                }
            }
            text.append('"');
        }
    }
}
