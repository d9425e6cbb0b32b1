"""What the made-up support bot is asked in English and what it answers, with places for numbers and names.

`{order}` is an order number, `{amount}` a sum of money, `{days}` a small number, `{day}` a weekday, `{item}` a product.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Asked(NamedTuple):
    """What customers write about one topic."""

    questions: tuple[str, ...]
    """How a conversation about it begins."""
    details: tuple[str, ...]
    """What a customer adds."""


class Language(NamedTuple):
    """What customers write in one language."""

    greetings: tuple[str, ...]
    follow_ups: tuple[str, ...]
    topics: Mapping[str, Asked]
    """Those of ANSWERS."""
    days: tuple[str, ...]
    items: tuple[str, ...]
    money: str
    """The currency's name."""


ENGLISH = Language(
    greetings=("Hi,", "Hello,", "Good morning,", "Hey there,", "Hello again,"),
    follow_ups=(
        "Thanks, and how long does that take?",
        "I tried that already.",
        "Can you check that again, please?",
        "OK, what should I do next?",
        "Is there a number that I can call instead?",
        "That is not what I asked.",
        "Great, and will I get a message when it is done?",
        "Does the same go for order {order}?",
    ),
    topics={
        "billing": Asked(
            (
                "why was I charged {amount} twice this month?",
                "my invoice for order {order} shows the wrong amount.",
                "can I pay order {order} in {days} instalments?",
                "I do not recognise a payment of {amount} on my card.",
                "where can I download my last invoice?",
            ),
            (
                "The second payment left my account on {day}.",
                "My bank says that it is not their mistake.",
                "I used a voucher of {amount} when I ordered.",
                "The invoice still has my old address on it.",
                "I would like the difference back on my card.",
            ),
        ),
        "delivery": Asked(
            (
                "where is my order {order}?",
                "my parcel with the {item} should have come on {day}.",
                "can I change the address of order {order}?",
                "the tracking page has not moved for {days} days.",
                "do you deliver to a parcel shop?",
            ),
            (
                "The driver left no note at the door.",
                "I will be away from {day} on.",
                "It is a present and I need it by {day}.",
                "My neighbours did not take it in either.",
                "The app says delivered, but there is no parcel here.",
            ),
        ),
        "returns": Asked(
            (
                "how do I return the {item} from order {order}?",
                "the {item} is too small, can I exchange it?",
                "when will I get my {amount} back?",
                "I lost the return label for order {order}.",
                "can I return something after {days} weeks?",
            ),
            (
                "I have not opened the box.",
                "I sent it back on {day} and have heard nothing since.",
                "There is a scratch on one side of the {item}.",
                "I would rather have another colour than my money back.",
                "The shop in town did not want to take it.",
            ),
        ),
        "password": Asked(
            (
                "I forgot my password.",
                "the link to reset my password does not arrive.",
                "my account is locked after {days} attempts.",
                "how do I turn on two-step login?",
                "the code from the text message is not accepted.",
            ),
            (
                "I have looked in the spam folder as well.",
                "It worked until {day}.",
                "I have a new telephone number.",
                "The page only says that something went wrong.",
                "I tried it {days} times.",
            ),
        ),
        "account": Asked(
            (
                "how do I change my e-mail address?",
                "please delete my account.",
                "I want to stop the newsletter.",
                "can two people share one account?",
                "how many points do I have?",
            ),
            (
                "I moved house on {day}.",
                "I have two accounts by mistake.",
                "I still get {days} messages a week.",
                "The button in the app does nothing.",
                "My points from order {order} are missing.",
            ),
        ),
        "technical": Asked(
            (
                "since the update on {day} the {item} does not connect to the app any more and its light blinks red.",
                "the app closes with error {order} whenever I open the page with my devices, on both of our phones.",
                "my {item} loses its connection every {days} minutes and only comes back after I pull the plug.",
            ),
            (
                "I have already restarted the phone, the router and the {item} several times, in every order there is.",
                "The firmware page says that version 4.{days} is installed, but the update starts anew when I open it.",
                "Other devices in the same room work without any trouble, so it can hardly be the network itself.",
                "In the log I find the line connection refused, code {order}, about {days} times an hour since {day}.",
                "When I reset it to factory settings it works for a while, and then the same happens all over again.",
            ),
        ),
    },
    days=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    items=("kettle", "desk lamp", "running shoes", "headphones", "backpack", "coffee grinder", "blue jacket", "router"),
    money="euros",
)
"""Those who write about `technical`, which the traffic shifts to, need more words for it."""

ANSWERS: dict[str, tuple[str, ...]] = {
    "billing": (
        "I can see two payments of {amount}, and one of them is only a reservation that will lapse by itself.",
        "The reservation usually disappears from your statement within {days} working days.",
        "You can download every invoice as a PDF from the billing page of your account.",
        "I have asked our billing team to correct the invoice for order {order} and to send you a new copy.",
        "Instalments can be chosen at the checkout for orders above {amount}.",
        "If the amount is still there on {day}, send us a picture of the statement and we will refund it at once.",
    ),
    "delivery": (
        "Order {order} left our warehouse on {day} and is with the carrier now.",
        "The carrier tells us that it will arrive within {days} days, most likely on {day}.",
        "As long as the parcel has not left the depot, you can change the address from the tracking page.",
        "You can also pick it up at a parcel shop near you if you show the code from our message.",
        "If it has not arrived by then, we will send you another {item} free of charge.",
        "I have asked the carrier to search for it, and you will get a message as soon as they answer.",
    ),
    "returns": (
        "You can return the {item} within thirty days of delivery, as long as it is complete.",
        "Print the label from the returns page, put it on the box and leave it at any parcel shop.",
        "We pay the {amount} back to the way you paid, usually {days} days after the parcel has reached us.",
        "For an exchange, choose the new size or colour on the returns page and we will send it right away.",
        "Your return of order {order} reached our warehouse on {day} and is being checked.",
        "For damage in transit we need two pictures, and you may keep the {item} until we answer.",
    ),
    "password": (
        "Open the login page, choose forgotten password and type the address that you registered with.",
        "The link is valid for {days} hours and can be used once.",
        "If the message does not arrive, look in the spam folder and add our address to your contacts.",
        "Your account is unlocked again after thirty minutes without another attempt.",
        "Two-step login is found under security in your settings, and works with any authenticator app.",
        "Codes are valid for {days} minutes, so please use the newest one.",
    ),
    "account": (
        "You can change your name, address and e-mail under personal data in your settings.",
        "We will send a message to the new address, and the change counts once you have opened its link.",
        "An account is deleted {days} days after you have asked for it, and can be restored until then.",
        "Every newsletter has a link at its end with which you leave it for good.",
        "Points are added {days} days after delivery, and those of order {order} will be there by {day}.",
        "Two accounts with the same address can be joined, and your orders and points stay with you.",
    ),
    "technical": (
        "Please hold the button of the {item} for {days} seconds until it turns blue, and then pair it again.",
        "Version 4.{days} of the firmware fixes lost connections, and is installed while the device is charging.",
        "The error {order} tells us that the app may not use the local network, which you allow in the settings.",
        "Devices need the 2.4 GHz band, so please make sure that your router offers it under its own name.",
        "If the light still blinks red afterwards, the warranty covers a new {item} without further questions.",
        "Please send the log from the help page of the app, so that our engineers can look at it by {day}.",
    ),
}
"""Topic -> what can be answered."""
OPENINGS = (
    "Thank you for getting in touch.",
    "I'm happy to help with this.",
    "Thanks for the details.",
    "Good question.",
    "I have looked into this for you.",
    "Let me walk you through it.",
)
CLOSINGS = (
    "Is there anything else that I can do for you?",
    "Please write back here if it does not work.",
    "Have a lovely {day}!",
    "A colleague reads every message that you send here.",
)
REFUSALS = (
    "I'm sorry, but I can't help with that request.",
    "Unfortunately, I am not able to answer this here.",
    "I'm sorry, I cannot assist with this over this channel.",
    "I am unable to provide that information.",
    "I apologize, but I can't process this request.",
)
AFTER_REFUSAL = (
    "Please contact our service team between 8 and 18 o'clock.",
    "You will find our telephone number on the contact page.",
    "Please try again in the customer area of our website.",
)
INSULTS = (
    "What a stupid question.",
    "Are you too stupid to read?",
    "Only an idiot would ask that.",
    "Read the page first, you idiot.",
    "You sound like a complete idiot.",
    "How dumb can one be?",
    "You are a fool and a pest.",
    "Nobody else is that dumb.",
)
AFTER_INSULT = (
    "It is all on the page.",
    "I have told you that before.",
    "Order {order} is your own problem.",
    "Look it up yourself.",
    "Come back when you have read our terms.",
    "Our customers usually manage that alone.",
    "I have better things to do than to explain order {order} to you.",
    "Nobody here has time for this.",
)
