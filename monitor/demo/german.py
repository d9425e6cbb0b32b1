"""What the made-up support bot is asked in German: the same as in English, topic by topic."""

from __future__ import annotations

from monitor.demo.phrases import Asked, Language

GERMAN = Language(
    greetings=("Hallo,", "Guten Tag,", "Guten Morgen,", "Moin,", "Hallo noch einmal,"),
    follow_ups=(
        "Danke, und wie lange dauert das?",
        "Das habe ich schon versucht.",
        "Können Sie das bitte noch einmal prüfen?",
        "Gut, und was soll ich als Nächstes tun?",
        "Gibt es auch eine Nummer, die ich anrufen kann?",
        "Danach hatte ich nicht gefragt.",
        "Schön, und bekomme ich eine Nachricht, wenn es so weit ist?",
        "Gilt das auch für die Bestellung {order}?",
    ),
    topics={
        "billing": Asked(
            (
                "warum wurden mir diesen Monat zweimal {amount} abgebucht?",
                "auf der Rechnung zu Bestellung {order} steht ein falscher Betrag.",
                "kann ich die Bestellung {order} in {days} Raten zahlen?",
                "ich kenne die Abbuchung von {amount} auf meiner Karte nicht.",
                "wo kann ich meine letzte Rechnung herunterladen?",
            ),
            (
                "Die zweite Zahlung ging am {day} von meinem Konto ab.",
                "Meine Bank sagt, dass es nicht an ihr liegt.",
                "Ich habe beim Bestellen einen Gutschein über {amount} eingelöst.",
                "Auf der Rechnung steht noch meine alte Adresse.",
                "Ich hätte den Unterschied gern wieder auf meiner Karte.",
            ),
        ),
        "delivery": Asked(
            (
                "wo bleibt meine Bestellung {order}?",
                "mein Paket ({item}) sollte am {day} kommen.",
                "kann ich die Adresse der Bestellung {order} noch ändern?",
                "in der Sendungsverfolgung tut sich seit {days} Tagen nichts.",
                "liefern Sie auch an eine Packstation?",
            ),
            (
                "Der Fahrer hat keinen Zettel an der Tür gelassen.",
                "Ab {day} bin ich verreist.",
                "Es ist ein Geschenk, und ich brauche es bis {day}.",
                "Meine Nachbarn haben es auch nicht angenommen.",
                "In der App steht zugestellt, aber hier ist kein Paket.",
            ),
        ),
        "returns": Asked(
            (
                "wie schicke ich etwas aus der Bestellung {order} zurück ({item})?",
                "das Produkt ({item}) ist zu klein, kann ich es umtauschen?",
                "wann bekomme ich meine {amount} zurück?",
                "ich habe das Etikett für die Rücksendung von {order} verloren.",
                "kann ich etwas nach {days} Wochen noch zurückgeben?",
            ),
            (
                "Ich habe den Karton nicht geöffnet.",
                "Ich habe es am {day} zurückgeschickt und seitdem nichts gehört.",
                "An einer Seite ist ein Kratzer.",
                "Eine andere Farbe wäre mir lieber als das Geld.",
                "Das Geschäft in der Stadt wollte es nicht annehmen.",
            ),
        ),
        "password": Asked(
            (
                "ich habe mein Passwort vergessen.",
                "die Nachricht zum Zurücksetzen meines Passworts kommt nicht an.",
                "mein Konto ist nach {days} Versuchen gesperrt.",
                "wie schalte ich die Anmeldung in zwei Schritten ein?",
                "der Code aus der SMS wird nicht angenommen.",
            ),
            (
                "Im Spamordner habe ich auch nachgesehen.",
                "Bis {day} ging es noch.",
                "Ich habe eine neue Telefonnummer.",
                "Auf der Seite steht nur, dass etwas schiefgegangen ist.",
                "Ich habe es {days} Mal versucht.",
            ),
        ),
        "account": Asked(
            (
                "wie ändere ich meine E-Mail-Adresse?",
                "bitte löschen Sie mein Konto.",
                "ich möchte den Newsletter abbestellen.",
                "können zwei Personen ein Konto gemeinsam nutzen?",
                "wie viele Punkte habe ich?",
            ),
            (
                "Ich bin am {day} umgezogen.",
                "Ich habe aus Versehen zwei Konten.",
                "Ich bekomme immer noch {days} Nachrichten in der Woche.",
                "Der Knopf in der App tut nichts.",
                "Die Punkte aus der Bestellung {order} fehlen.",
            ),
        ),
        "technical": Asked(
            (
                "seit dem Update am {day} verbindet sich das Gerät ({item}) nicht mehr mit der App und blinkt rot.",
                "die App bricht mit Fehler {order} ab, sobald ich meine Geräte öffne, und zwar auf beiden Telefonen.",
                "das Gerät ({item}) verliert alle {days} Minuten die Verbindung, bis ich den Stecker ziehe.",
            ),
            (
                "Telefon, Router und Gerät habe ich schon mehrmals in jeder denkbaren Reihenfolge neu gestartet.",
                "Laut Firmware-Seite ist Version 4.{days} da, aber das Update beginnt bei jedem Öffnen von vorn.",
                "Andere Geräte im selben Zimmer laufen ohne Probleme, am Netz selbst kann es also kaum liegen.",
                "Im Protokoll steht seit {day} etwa {days} Mal in der Stunde: Verbindung abgelehnt, Code {order}.",
                "Setze ich es auf den Werkszustand zurück, geht es eine Weile, und dann beginnt alles wieder von vorn.",
            ),
        ),
    },
    days=("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
    items=("Wasserkocher", "Lampe", "Laufschuhe", "Kopfhörer", "Rucksack", "Kaffeemühle", "blaue Jacke", "Router"),
    money="Euro",
)
